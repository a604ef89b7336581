"""moderation is the blog's service where a moderator approves comments or rejects them.

Which comments there are it has heard, by events that the Murmur sidecar beside it delivers by POST. The moderator's word
it says with one POST to that sidecar, and hears itself, as every subscriber does.

Ordinary Python with its standard library and a driver of Redis; nothing here knows of a message bus.
"""

import http.client
import json
import os
import re
import signal
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

import store

PAGE = 100  # comments in one answer
LARGEST = 1 << 20  # bytes of a request


class Unavailable(Exception):
    """The event bus cannot take an event now; the same may be asked again later."""

    def __init__(self, cause, retry_after=None):
        super().__init__(f"the event bus cannot take the event: {cause}")
        self.retry_after = retry_after or "1"


def publish(murmur, event_type, event_id, key, data):
    """Hands an event to the sidecar. When it returns the bus has stored it. Events of one key reach each subscriber in
    this order; an event whose id was stored before (within minutes) is not stored again."""
    request = urllib.request.Request(
        f"{murmur}/v1/events/{event_type}",
        json.dumps(data).encode(),
        {"content-type": "application/json", "ce-id": event_id, "ce-partitionkey": key},
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            response.read()
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 429 or error.code > 500:
                raise Unavailable(error.read(), error.headers.get("retry-after")) from error
            raise RuntimeError(f"the sidecar refused the event {event_id}: {error.code} {error.read()}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(error) from error


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one piece
    timeout = 60  # seconds that a connection may be idle

    def answer(self, status, body, retry_after="1"):
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if status == 503:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(text)

    def guarded(self, respond):
        """503 when the database is away: it may be asked again, and an event waits until then."""
        try:
            return respond()
        except store.Rejected as error:
            return self.answer(422, {"error": str(error)})
        except (ValueError, RecursionError) as error:
            return self.answer(400, {"error": f"send JSON: {error}"})
        except store.Conflict as error:
            return self.answer(409, {"error": str(error)})
        except Unavailable as error:
            return self.answer(503, {"error": str(error)}, error.retry_after)
        except RuntimeError as error:
            return self.answer(500, {"error": str(error)})
        except redis.RedisError as error:
            return self.answer(503, {"error": f"the database does not answer: {error}"})

    def body(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.close_connection = True
            raise store.Rejected("send at most 1 MiB, with a content-length")
        return json.loads(self.rfile.read(int(length)))

    def log_request(self, code="-", size="-"):
        if int(code) >= 400:  # quiet when all is well
            super().log_request(code, size)


class Questions(Handler):
    """What everyone may ask."""

    def do_GET(self):
        self.guarded(self.get)

    def get(self):
        if self.path == "/readyz":
            return self.answer(200, "ready")
        if self.path in ("/comments", "/comments?status=pending"):
            return self.answer(200, self.server.store.pending(PAGE))
        return self.one(lambda comment: self.answer(200, comment))

    def do_PUT(self):
        self.guarded(self.put)

    def put(self):
        body = self.body()
        status = body.get("status") if isinstance(body, dict) else None
        if status not in store.STATUSES:
            return self.answer(400, {"error": 'send {"status": "approved"} or {"status": "rejected"}'})
        return self.one(lambda comment: self.moderate(comment, status))

    def moderate(self, comment, status):
        # First here, where one word wins; then to everyone. Should this service die between the two, the moderator, who
        # got no answer, sends the same again.
        self.server.store.decide(comment["id"], status)
        event = {"id": comment["id"], "post": comment["post"], "status": status}
        # The key is the post: what happens to its comments reaches each subscriber in this order.
        publish(self.server.murmur, "CommentModerated", f"moderated-{comment['id']}", f"post-{comment['post']}", event)
        return self.answer(200, {**comment, "status": status})

    def one(self, respond):
        asked = re.fullmatch(r"/comments/([A-Za-z0-9-]{1,40})", self.path)
        if not asked:
            return self.answer(404, {"error": "there are GET /comments, and GET and PUT of /comments/{id}"})
        comment = self.server.store.comment(asked[1])
        return respond(comment) if comment else self.answer(404, {"error": f"there is no comment {asked[1]}"})


class Events(Handler):
    """What the sidecar delivers, on a port that no other pod reaches. After a 2xx Murmur goes on to the next event;
    after 400 or 422 this one never comes again; 503 says that the database is away: it waits, and comes again."""

    def do_POST(self):
        self.guarded(self.post)

    def post(self):
        data = self.body()
        if self.path != "/events":
            return self.answer(404, {"error": "events go to /events"})
        self.server.store.hear(self.headers.get("ce-type", ""), data, int(self.headers.get("murmur-sequence", "0")))
        return self.answer(200, {})


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address, handler, kept, murmur):
        self.store = kept
        self.murmur = murmur
        super().__init__(address, handler)


def servers(kept, murmur, questions=("", 8080), events=("127.0.0.1", 8081)):
    """The server of questions and the server of events, over this store; murmur is the URL of the sidecar."""
    return Server(questions, Questions, kept, murmur), Server(events, Events, kept, murmur)


def main():
    missing = [name for name in ("MURMUR_URL", "DATABASE_HOST", "DATABASE_PASSWORD") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} not set: run moderation as moderation.yaml has it", file=sys.stderr)
        return 64
    questions, events = servers(store.connect(os.environ), os.environ["MURMUR_URL"])
    threading.Thread(target=events.serve_forever, args=(0.1,), daemon=True).start()

    def stop():
        events.shutdown()
        questions.shutdown()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop).start())
    questions.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
