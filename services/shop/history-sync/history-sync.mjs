// history-sync is service D of the shop, by direct requests: what did this user ever order?
//
// It keeps nothing. For each request it asks users, orders and products, one after the other, through the Murmur
// sidecar beside it, which finds them. Easy to understand; as slow as the three together; if one is down, so is this.
//
// Ordinary JavaScript with Node's own http module.

import http from "node:http";
import { pathToFileURL } from "node:url";

const PATIENCE = 5_000; // milliseconds for one request to another service; the sidecar gives up earlier
const LARGEST = 8 << 20; // bytes of one answer of another service
const AT_ONCE = 100; // as many products as one request may name

const agent = new http.Agent({ keepAlive: true, maxSockets: 128 });

// An answer to our own client that is no success.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// get asks a service for a path; its answer must be one of these. With anything else our own answer is 503.
async function get(murmur, service, path, wanted = [200]) {
  const url = `${murmur}/v1/services/${service}${path}`;
  const { status, headers, text } = await exchange(url).catch((error) => {
    throw new Refusal(503, `cannot ask ${service}: ${error.message}`);
  });
  // What the sidecar answers itself, because it could not reach the service, has this header.
  const error = headers["murmur-error"];
  if (error) throw new Refusal(503, `cannot ask ${service}: ${error}`);
  if (!wanted.includes(status)) throw new Refusal(503, `${service} answers ${status} to ${path}`);
  try {
    return { status, body: JSON.parse(text) };
  } catch {
    throw new Refusal(503, `${service} answers ${path} with what is no JSON`);
  }
}

function exchange(url) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { agent, signal: AbortSignal.timeout(PATIENCE) }, (response) => {
      const chunks = [];
      let size = 0;
      response.on("data", (chunk) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > LARGEST) response.destroy(new Error(`the answer is larger than ${LARGEST} bytes`));
      });
      response.on("end", () => {
        resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() });
      });
      response.on("error", reject);
    });
    request.on("error", (error) => {
      // A kept connection may be closed by the other side just when it is used again: the request was not read.
      if (request.reusedSocket && error.code === "ECONNRESET") resolve(exchange(url));
      else reject(error);
    });
  });
}

// history gives the products that a user ordered, in the order of purchase.
async function history(murmur, user) {
  const { status } = await get(murmur, "users", `/users/${user}`, [200, 404]);
  if (status === 404) throw new Refusal(404, `there is no user ${user}`);
  const orders = await get(murmur, "orders", `/users/${user}/orders`);
  const ids = [...new Set(orders.body.map((order) => order.product))];
  const products = [];
  for (let first = 0; first < ids.length; first += AT_ONCE) {
    const query = ids.slice(first, first + AT_ONCE).map((id) => `id=${id}`);
    products.push(...(await get(murmur, "products", `/products?${query.join("&")}`)).body);
  }
  return products;
}

function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json", ...(status === 503 && { "retry-after": "1" }) });
  response.end(JSON.stringify(body));
}

// server answers GET /users/{id}/history; murmur is the URL of the sidecar.
export function server(murmur) {
  return http.createServer(async (request, response) => {
    const asked = /^\/users\/(\d{1,18})\/history$/.exec(request.url);
    if (request.method !== "GET" || !(asked || request.url === "/readyz")) {
      return answer(response, 404, { error: "ask for /users/{id}/history" });
    }
    try {
      answer(response, 200, asked ? await history(murmur, asked[1]) : "ready");
    } catch (error) {
      const status = error.status ?? 500;
      if (status >= 500) console.error(`GET ${request.url}: ${error.message}`);
      answer(response, status, { error: error.message });
    }
  });
}

function main() {
  const murmur = process.env.MURMUR_URL;
  if (!murmur) {
    console.error("MURMUR_URL is not set: run history-sync as a Microservice, or set it to the URL of a Murmur sidecar");
    process.exit(64);
  }
  const running = server(murmur).listen(8080);
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, () => {
      running.close(() => process.exit()); // when all that was asked is answered
      running.closeIdleConnections();
    });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
