// services/with-database.sh mariadb node --test services/blog/comments

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { events, questions } from "./comments.mjs";
import { connect } from "./store.mjs";

const store = connect(process.env);
const published = [];
let bus = { status: 200 };
const servers = {};

const listen = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
const url = (name) => `http://127.0.0.1:${servers[name].address().port}`;

before(async () => {
  console.error = () => {}; // the failures below are meant
  servers.sidecar = await listen(
    http.createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      published.push({ url: request.url, id: request.headers["ce-id"], key: request.headers["ce-partitionkey"], data: JSON.parse(body) });
      response.writeHead(bus.status, bus.headers).end("{}");
    }),
  );
  servers.questions = await listen(questions(store, url("sidecar")));
  servers.events = await listen(events(store));
});

after(async () => {
  for (const server of Object.values(servers)) {
    server.close();
    server.closeAllConnections();
  }
  await store.close();
});

beforeEach(async () => {
  bus = { status: 200 };
  published.length = 0;
  await store.prepare();
});

async function ask(method, path, body) {
  const response = await fetch(url("questions") + path, { method, body: body && JSON.stringify(body) });
  return { status: response.status, body: await response.json(), retryAfter: response.headers.get("retry-after") };
}

async function hear(type, data) {
  const body = typeof data === "string" ? data : JSON.stringify(data);
  return (await fetch(`${url("events")}/events`, { method: "POST", headers: { "ce-type": type }, body })).status;
}

let number = 0;
// a post that has been heard of
async function post() {
  const id = `post-${process.pid}-${++number}`;
  assert.equal(await hear("PostWritten", { id, title: "Hello", body: "" }), 200);
  return id;
}

test("a comment is said, and is there once it is heard", async () => {
  const id = await post();
  const written = await ask("POST", `/posts/${id}/comments`, { text: "Well said." });
  assert.equal(written.status, 201);
  assert.equal(written.body.status, "pending");
  const [event] = published;
  assert.equal(event.url, "/v1/events/CommentWritten");
  assert.equal(event.key, `post-${id}`);
  assert.equal(event.id, `comment-${written.body.id}`);
  assert.deepEqual({ ...event.data, status: "pending" }, written.body);

  assert.deepEqual((await ask("GET", `/posts/${id}/comments`)).body, []);
  assert.equal(await hear("CommentWritten", event.data), 200);
  assert.equal(await hear("CommentWritten", event.data), 200);
  assert.deepEqual((await ask("GET", `/posts/${id}/comments`)).body, [written.body]);
  assert.deepEqual((await ask("GET", `/posts/${id}/comments/${written.body.id}`)).body, written.body);
});

test("comments are in the order in which they were heard, each with the moderator's word", async () => {
  const id = await post();
  for (const name of ["b", "a"]) {
    await hear("CommentWritten", { id: `${id}-${name}`, post: id, text: name, written: "2026-11-21T20:00:00.000Z" });
  }
  await hear("CommentModerated", { id: `${id}-b`, post: id, status: "approved" });
  await hear("CommentWritten", { id: `${id}-b`, post: id, text: "b", written: "2026-11-21T20:00:00.000Z" });
  const { body } = await ask("GET", `/posts/${id}/comments`);
  assert.deepEqual(body.map(({ text, status }) => [text, status]), [["b", "approved"], ["a", "pending"]]);
});

test("there are no comments on a post that nobody heard of", async () => {
  for (const [method, path] of [["GET", "/posts/none/comments"], ["POST", "/posts/none/comments"], ["GET", "/posts/none/comments/1"]]) {
    assert.equal((await ask(method, path, method === "POST" ? { text: "x" } : undefined)).status, 404);
  }
  assert.equal(published.length, 0);
  assert.equal((await ask("GET", "/comments")).status, 404);
});

test("what is no comment is refused", async () => {
  const id = await post();
  for (const body of [{}, [], { text: 7 }, { text: " " }, { id: "a/b", text: "x" }, "text"]) {
    assert.equal((await ask("POST", `/posts/${id}/comments`, body)).status, 400, JSON.stringify(body));
  }
  assert.equal((await ask("POST", `/posts/${id}/comments`, { text: "x".repeat(70_000) })).status, 413);
  assert.equal(published.length, 0);
});

test("a comment that the bus cannot take is not taken", async () => {
  const id = await post();
  for (const status of [429, 503, 504, 507]) {
    bus = { status, headers: { "retry-after": "3" } };
    const answer = await ask("POST", `/posts/${id}/comments`, { text: "x" });
    assert.deepEqual([answer.status, answer.retryAfter], [503, "3"]);
  }
  bus = { status: 403 };
  assert.equal((await ask("POST", `/posts/${id}/comments`, { text: "x" })).status, 500);
});

test("an event of another shape is rejected for good", async () => {
  const id = await post();
  const comment = { id: "c", post: id, text: "x", written: "2026-11-21T20:00:00.000Z" };
  for (const data of ["{", "7", "null", {}, { ...comment, id: 7 }, { ...comment, text: null }, { ...comment, written: "x".repeat(99) }]) {
    const status = await hear("CommentWritten", data);
    assert.ok(status === 400 || status === 422, `${JSON.stringify(data)}: ${status}`);
  }
  assert.equal(await hear("Unheard", comment), 422);
});

test("while the database is away events wait, and questions fail", async (t) => {
  const away = connect({ ...process.env, DATABASE_PORT: "1" });
  const [asked, heard] = [await listen(questions(away, url("sidecar"))), await listen(events(away))];
  t.after(() => {
    for (const server of [asked, heard]) {
      server.close();
      server.closeAllConnections();
    }
    return away.close();
  });
  const to = (server) => `http://127.0.0.1:${server.address().port}`;
  const body = JSON.stringify({ id: "x" });
  assert.equal((await fetch(`${to(heard)}/events`, { method: "POST", headers: { "ce-type": "PostWritten" }, body })).status, 503);
  assert.equal((await fetch(`${to(asked)}/posts/x/comments`)).status, 503);
});
