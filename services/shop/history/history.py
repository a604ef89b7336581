"""history is service D of the shop: what did this user ever order?

It asks no other service. Everything that it needs it has noted in a database
of its own, from events that the Murmur sidecar beside it delivers by POST. So
it answers at once, also while the other services are down.

Ordinary Python with its standard library; nothing here knows of a message bus.
"""

import hmac
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TABLES = """
CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, title TEXT NOT NULL, image TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ordered (
    position INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of purchase
    user INTEGER NOT NULL, product INTEGER NOT NULL, UNIQUE (user, product));
"""

# What each event does. An event may come twice, and an order before its user or its product: no statement minds.
ON_EVENT = {
    "UserCreated": "INSERT INTO users VALUES (:id, :name) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "ProductCreated": "INSERT INTO products VALUES (:id, :title, :image)"
    " ON CONFLICT (id) DO UPDATE SET title = excluded.title, image = excluded.image",
    "OrderPlaced": "INSERT INTO ordered (user, product) VALUES (:user, :product) ON CONFLICT DO NOTHING",
}

# What the statements above raise on data of another shape: trying again would not help.
NOT_THE_DATA = (
    ValueError, TypeError, OverflowError, RecursionError,
    sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError,
)  # fmt: skip

HISTORY = """
SELECT products.id, title, image FROM ordered JOIN products ON products.id = ordered.product
WHERE ordered.user = ? ORDER BY position
"""


class Database:
    """The read model in one SQLite file."""

    def __init__(self, path):
        self.path = path
        with closing(self.connect()) as connection:
            connection.executescript(TABLES)

    def connect(self):
        connection = sqlite3.connect(self.path, timeout=10)
        connection.execute("PRAGMA synchronous = FULL")  # an event that was answered with 200 is on the disk
        return connection

    def apply(self, event_type, data):
        with closing(self.connect()) as connection, connection:  # commits, or rolls back on an error
            connection.execute(ON_EVENT[event_type], data)

    def history(self, user):
        """The products that a user ordered, in the order of purchase; None if nobody ever heard of the user."""
        with closing(self.connect()) as connection:
            rows = connection.execute(HISTORY, (user,)).fetchall()
            known = rows or connection.execute("SELECT 1 FROM users WHERE id = ?", (user,)).fetchone()
        return [dict(zip(("id", "title", "image"), row)) for row in rows] if known else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one piece
    timeout = 60  # seconds that a connection may be idle
    database = None
    token = ""

    def do_GET(self):
        if self.path == "/readyz":
            return self.answer(200, "ready")
        asked = re.fullmatch(r"/users/(\d{1,18})/history", self.path)
        if not asked:
            return self.answer(404, {"error": "ask for /users/{id}/history"})
        history = self.database.history(int(asked[1]))
        if history is None:
            return self.answer(404, {"error": f"there is no user {asked[1]}"})
        return self.answer(200, history)

    def do_POST(self):
        """An event. 200 makes Murmur go on to the next; with 400 it never comes again; after 500 it does."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > 1 << 20:
            self.close_connection = True
            return self.answer(413, {"error": "send at most 1 MiB, with a content-length"})
        body = self.rfile.read(int(length))
        if self.path != "/events":
            return self.answer(404, {"error": "events go to /events"})
        # Anyone in the namespace can reach this port; only the sidecar knows the token.
        shown = self.headers.get("authorization", "").encode()
        if not hmac.compare_digest(shown, f"Bearer {self.token}".encode()):
            return self.answer(401, {"error": "the token is not MURMUR_TOKEN"})
        event_type = self.headers.get("ce-type", "")
        if event_type not in ON_EVENT:
            return self.answer(400, {"error": f"no use for an event of type {event_type!r}"})
        try:
            self.database.apply(event_type, dict(json.loads(body)))
        except NOT_THE_DATA as error:
            return self.answer(400, {"error": f"not the data of a {event_type}: {error}"})
        except sqlite3.Error as error:
            return self.answer(500, {"error": f"cannot note the event: {error}"})
        return self.answer(200, {})

    def answer(self, status, body):
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_request(self, code="-", size="-"):
        if int(code) >= 400:  # quiet when all is well
            super().log_request(code, size)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def server(port, path, token):
    """A server of the read model at this path, bound to this port."""
    handler = type("HistoryHandler", (Handler,), {"database": Database(path), "token": token})
    return Server(("", port), handler)


def main():
    missing = [name for name in ("DATABASE_PATH", "MURMUR_TOKEN") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} not set: run history as a Microservice with an SQLite database", file=sys.stderr)
        return 64
    with server(8080, os.environ["DATABASE_PATH"], os.environ["MURMUR_TOKEN"]) as running:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=running.shutdown).start())
        running.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
