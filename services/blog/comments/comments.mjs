// comments is the blog's service of comments on posts: /posts/{id}/comments.
//
// It asks no other service: which posts there are it has heard. A comment it says with one POST to the Murmur sidecar
// beside it, and hears itself, as every subscriber does: its own rows come from there, and so does the moderator's word.
//
// Ordinary JavaScript with Node's own http module and a driver of MariaDB.

import { randomUUID } from "node:crypto";
import http from "node:http";
import { pathToFileURL } from "node:url";
import { publish, Unavailable } from "./murmur.mjs";
import { connect, Rejected } from "./store.mjs";

const LARGEST = 64 << 10; // bytes of a request
const ID = /^[A-Za-z0-9-]{1,40}$/;

// An answer to our own client that is no success.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) > LARGEST) throw new Refusal(413, `send at most ${LARGEST} bytes`);
    chunks.push(chunk);
  }
  try {
    return Object(JSON.parse(Buffer.concat(chunks).toString()));
  } catch {
    throw new Refusal(400, "send JSON");
  }
}

// service answers one request; its handler gives the status and the body.
function service(handler) {
  return http.createServer(async (request, response) => {
    const answer = (status, body, headers) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    try {
      answer(...(await handler(request)));
    } catch (error) {
      // what is neither the client's fault nor the bus's is the database's: it may be asked again
      const status = error.status ?? (error instanceof Rejected ? 422 : 503);
      if (status >= 500) console.error(`${request.method} ${request.url}: ${error.message}`);
      answer(status, { error: error.message }, status === 503 && { "retry-after": error.retryAfter ?? "1" });
    }
  });
}

// questions are for whoever reaches the service.
export function questions(store, murmur) {
  async function write(post, request) {
    const { id = randomUUID(), text } = await read(request);
    if (!ID.test(id) || typeof text !== "string" || !text.trim()) throw new Refusal(400, 'send a comment such as {"text": "Well said."}');
    if (!(await store.knows(post))) throw new Refusal(404, `there is no post ${post}`);
    const comment = { id, post, text, written: new Date().toISOString() };
    // The key is the post: what happens to it and its comments reaches each subscriber in this order.
    await publish(murmur, "CommentWritten", `comment-${id}`, `post-${post}`, comment);
    return [201, { ...comment, status: "pending" }];
  }

  async function list(post) {
    const found = await store.of(post);
    if (found.length === 0 && !(await store.knows(post))) throw new Refusal(404, `there is no post ${post}`);
    return [200, found];
  }

  async function one(post, id) {
    const found = await store.one(post, id);
    if (!found) throw new Refusal(404, `there is no comment ${id} on a post ${post}`);
    return [200, found];
  }

  return service(async (request) => {
    if (request.url === "/readyz") return [200, "ready"];
    const [, post, id] = /^\/posts\/([A-Za-z0-9-]{1,40})\/comments(?:\/([A-Za-z0-9-]{1,40}))?$/.exec(request.url) ?? [];
    if (post && !id && request.method === "POST") return write(post, request);
    if (post && request.method === "GET") return id ? one(post, id) : list(post);
    throw new Refusal(404, "there are GET and POST of /posts/{id}/comments, and GET of /posts/{id}/comments/{id}");
  });
}

// events is for the sidecar alone: no other pod reaches this port. After a 2xx Murmur goes on to the next event; after
// 400 or 422 this one never comes again; 503 says that the database is away: it waits, and comes again.
export function events(store) {
  return service(async (request) => {
    if (request.method !== "POST" || request.url !== "/events") throw new Refusal(404, "events go to /events");
    await store.hear(request.headers["ce-type"], await read(request));
    return [200, {}];
  });
}

async function main() {
  const missing = ["MURMUR_URL", "DATABASE_HOST", "DATABASE_PASSWORD"].filter((name) => !process.env[name]);
  if (missing.length > 0) {
    console.error(`${missing.join(" and ")} not set: run comments as comments.yaml has it`);
    process.exit(64);
  }
  const store = connect(process.env);
  const running = [];
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, () => {
      for (const server of running) {
        server.close(); // when all that was asked is answered
        server.closeIdleConnections();
      }
      setTimeout(() => process.exit(), running.length > 0 ? 1_000 : 0).unref();
      Promise.all(running.map((server) => new Promise((closed) => server.on("close", closed)))).then(() => process.exit());
    });
  }
  // The database may still be starting: nobody is listened to before there are tables.
  for (let wait = 100; ; wait = Math.min(wait * 2, 5_000)) {
    try {
      await store.prepare();
      break;
    } catch (error) {
      console.error(`cannot prepare the database, trying again: ${error.message}`);
      await new Promise((resume) => setTimeout(resume, wait));
    }
  }
  running.push(questions(store, process.env.MURMUR_URL).listen(8080), events(store).listen(8081, "127.0.0.1"));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
