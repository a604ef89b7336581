// The CloudEvents SDK for JavaScript as a client of a sidecar and as a receiver: see ../README.md.
"use strict";

const http = require("node:http");
const { CloudEvent, HTTP } = require("cloudevents");

async function publish(url) {
  const kinds = {
    json: { datacontenttype: "application/json", data: { text: "größer 😀", number: 5 } },
    bytes: { datacontenttype: "application/octet-stream", data: new Uint8Array([0, 255, 10]) },
  };
  for (const mode of ["binary", "structured"]) {
    for (const [kind, content] of Object.entries(kinds)) {
      const event = new CloudEvent({
        id: `javascript-${mode}-${kind}`,
        source: "/sdk/javascript",
        type: "Tick",
        // In binary mode this SDK writes attributes as they are: only plain ones arrive.
        subject: "size-1",
        time: "2026-11-21T09:00:00Z",
        partitionkey: "k",
        remark: "plain",
        ...content,
      });
      const message = HTTP[mode](event);
      const answer = await fetch(url, { method: "POST", headers: message.headers, body: message.body });
      if (!answer.ok) throw new Error(`${event.id}: ${answer.status} ${await answer.text()}`);
    }
  }
}

function receive(port, tell) {
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      tell(request.headers, Buffer.concat(chunks));
      response.writeHead(204).end();
    });
  });
  server.listen(Number(port), "127.0.0.1");
}

function tellOne(headers, body) {
  const isJson = headers["content-type"] === "application/json";
  const event = HTTP.toEvent({ headers, body: isJson ? body.toString() : body });
  const { id, source, type, datacontenttype, partitionkey } = event;
  // Nor does it decode what is percent-encoded in headers (CloudEvents HTTP binding, 3.1.3.2).
  const [subject, remark] = [event.subject, event.remark].map(decodeURIComponent);
  const time = new Date(event.time).toISOString().replace(".000Z", "Z");
  const data = isJson ? event.data : Buffer.from(event.data).toString("base64");
  const seen = { id, source, type, subject, time, datacontenttype, partitionkey, remark, data };
  console.log(JSON.stringify(seen));
}

// An array comes of a batch; nothing makes one (HTTP.binary and HTTP.structured take one event).
function tellBatch(headers, body) {
  for (const event of HTTP.toEvent({ headers, body: body.toString() })) {
    const { id, source, type, subject, datacontenttype, partitionkey, remark } = event;
    const time = new Date(event.time).toISOString().replace(".000Z", "Z");
    const data = datacontenttype === "application/json" ? event.data : event.data_base64;
    console.log(JSON.stringify({ id, source, type, subject, time, datacontenttype, partitionkey, remark, data }));
  }
}

const [verb, argument] = process.argv.slice(2);
if (verb === "publish" && argument) {
  publish(argument).catch((error) => {
    console.error(error);
    process.exit(1);
  });
} else if (verb === "receive" && argument) {
  receive(argument, tellOne);
} else if (verb === "receive-batch" && argument) {
  receive(argument, tellBatch);
} else {
  console.error("usage: sdk.js publish URL | receive PORT | receive-batch PORT");
  process.exit(1);
}
