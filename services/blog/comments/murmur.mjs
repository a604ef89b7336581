// All there is to know about Murmur for a service that publishes: one POST to the sidecar beside it.

// The event bus could not take an event now; the same may be asked again later.
export class Unavailable extends Error {
  constructor(cause, retryAfter) {
    super(`the event bus cannot take the event: ${cause}`);
    this.retryAfter = retryAfter ?? "1";
  }
}

// publish hands an event to the sidecar. When it returns the bus has stored it. Events of one key reach each subscriber
// in this order; an event whose id was stored before (within minutes) is not stored again.
export async function publish(murmur, type, id, key, data) {
  let response, text;
  try {
    response = await fetch(`${murmur}/v1/events/${type}`, {
      method: "POST",
      headers: { "content-type": "application/json", "ce-id": id, "ce-partitionkey": key },
      body: JSON.stringify(data),
      signal: AbortSignal.timeout(15_000),
    });
    text = await response.text();
  } catch (error) {
    throw new Unavailable(error.cause?.message ?? error.message);
  }
  if (response.status === 429 || response.status > 500) throw new Unavailable(text, response.headers.get("retry-after"));
  if (response.status === 200) return;
  throw Object.assign(new Error(`the sidecar refused the event ${id}: ${response.status} ${text}`), { status: 500 });
}
