// node --test services/shop/history-sync

import assert from "node:assert/strict";
import http from "node:http";
import { after, beforeEach, test } from "node:test";

import { server } from "./history-sync.mjs";

const PANTS = { id: 5, title: "pants", image: "pants.jpeg" };
const SHOES = { id: 20, title: "shoes", image: "shoes.png" };

// Stands where the sidecar is: what it answers to each path, and which paths were asked for.
let answers;
let asked;
const sidecar = http.createServer((request, response) => {
  asked.push(request.url);
  const path = Object.keys(answers).find((start) => request.url.startsWith(`/v1/services/${start}`));
  const { status = 200, headers = {}, body } = answers[path] ?? { status: 500, body: `nothing at ${request.url}` };
  response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body));
});
const port = (listening) => new Promise((resolve) => listening.listen(0, "127.0.0.1", () => resolve(listening.address().port)));
const service = server(`http://127.0.0.1:${await port(sidecar)}`);
const url = `http://127.0.0.1:${await port(service)}`;
after(() => [service, sidecar].forEach((listening) => (listening.closeAllConnections(), listening.close())));

beforeEach(() => {
  asked = [];
  answers = {
    "users/users/1": { body: { id: 1, name: "Ada" } },
    "orders/users/1/orders": { body: [5, 20, 5].map((product, n) => ({ id: `order-${n}`, user: 1, product })) },
    "products/products?": { body: [PANTS, SHOES] },
  };
});

// get gives status and body of our own answer, and what it logs.
async function get(path) {
  const errors = [];
  const log = console.error;
  console.error = (line) => errors.push(line);
  try {
    return await new Promise((resolve, reject) => {
      const request = http.get(url + path, (response) => {
        let text = "";
        response.on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode, body: JSON.parse(text), headers: response.headers, errors }));
      });
      request.on("error", reject);
    });
  } finally {
    console.error = log;
  }
}

test("the history has each product once, by three requests one after the other", async () => {
  const { status, body } = await get("/users/1/history");
  assert.deepEqual([status, body], [200, [PANTS, SHOES]]);
  assert.deepEqual(asked, [
    "/v1/services/users/users/1",
    "/v1/services/orders/users/1/orders",
    "/v1/services/products/products?id=5&id=20",
  ]);
});

test("who has ordered nothing has an empty history, and products is not asked", async () => {
  answers["orders/users/1/orders"].body = [];
  const { status, body } = await get("/users/1/history");
  assert.deepEqual([status, body, asked.length], [200, [], 2]);
});

test("many products are asked for a hundred at a time", async () => {
  answers["orders/users/1/orders"].body = Array.from({ length: 250 }, (_, n) => ({ id: `${n}`, user: 1, product: n + 1 }));
  const { status, body } = await get("/users/1/history");
  assert.deepEqual([status, body.length, asked.length], [200, 6, 2 + 3]);
});

test("a user who is not there is 404", async () => {
  answers["users/users/1"] = { status: 404, body: { error: "there is no user 1" } };
  assert.equal((await get("/users/1/history")).status, 404);
});

test("when one of the three does not answer, neither do we", async () => {
  for (const part of Object.keys(answers)) {
    for (const broken of [
      { status: 503, headers: { "murmur-error": "unreachable" }, body: { code: "unreachable" } },
      { status: 404, headers: { "murmur-error": "unknown" }, body: { code: "unknown" } },
      { status: 500, body: "oops" },
      { status: 200, body: "no JSON" },
    ]) {
      const whole = answers[part];
      answers[part] = broken;
      const { status, body, headers, errors } = await get("/users/1/history");
      assert.deepEqual([status, headers["retry-after"], errors.length], [503, "1", 1], `${part} ${broken.status}`);
      assert.ok(body.error.includes(part.split("/")[0]), body.error);
      answers[part] = whole;
    }
  }
});

test("an unknown path is 404", async () => {
  for (const path of ["/", "/users/x/history", "/users/1/history/more"]) assert.equal((await get(path)).status, 404);
  assert.equal((await get("/readyz")).status, 200);
});
