// Read by demo.sh into Node in a pod of the shop: asks each of the services named by the arguments the same thing, so
// many times, one after the other, and prints a line for each: service, statuses, p50 and p99 in milliseconds, and the
// last answer.
//
//     node --input-type=module - COUNT PATH SERVICE... < measure.mjs

import http from "node:http";

const [count, path, ...services] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true });

const ask = (service) =>
  new Promise((resolve) => {
    const request = http.get({ host: service, path, agent, timeout: 15_000 }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode, missing: response.headers.missing, text }));
    });
    request.on("timeout", () => request.destroy(new Error("no answer")));
    request.on("error", (error) => resolve({ status: error.code ?? "error", text: error.message }));
  });

for (const service of services) {
  await ask(service); // the connection, and what a runtime does at its first request
  const times = [];
  const statuses = {};
  let last;
  for (let n = 0; n < Number(count); n++) {
    const began = performance.now();
    last = await ask(service);
    times.push(performance.now() - began);
    statuses[last.status] = (statuses[last.status] ?? 0) + 1;
  }
  times.sort((a, b) => a - b);
  const percentile = (share) => times[Math.ceil(times.length * share) - 1].toFixed(1);
  const told = Object.entries(statuses).map(([status, times]) => `${times} x ${status}`);
  const missing = last.missing ? ` missing: ${last.missing}` : "";
  console.log([service, told.join(", "), percentile(0.5), percentile(0.99), last.text + missing].join("\t"));
}
agent.destroy();
