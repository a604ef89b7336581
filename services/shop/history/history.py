"""history is service D of the shop: what did this user ever order?

It asks no other service. Everything that it needs it has noted in a database
of its own, from events that the Murmur sidecar beside it delivers by POST. So
it answers at once, also while the other services are down.

Ordinary Python with its standard library; nothing here knows of a message bus.
"""

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
    ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
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


class Questions(Handler):
    """What everyone may ask."""

    def do_GET(self):
        if self.path == "/readyz":
            return self.answer(200, "ready")
        asked = re.fullmatch(r"/users/(\d{1,18})/history", self.path)
        if not asked:
            return self.answer(404, {"error": "ask for /users/{id}/history"})
        history = self.server.database.history(int(asked[1]))
        if history is None:
            return self.answer(404, {"error": f"there is no user {asked[1]}"})
        return self.answer(200, history)


class Events(Handler):
    """What the sidecar delivers, on a port that no other pod reaches."""

    def do_POST(self):
        """200 makes Murmur go on to the next event; after 400 or 422 this one never comes again; after 500 it does."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > 1 << 20:
            self.close_connection = True
            return self.answer(413, {"error": "send at most 1 MiB, with a content-length"})
        body = self.rfile.read(int(length))
        if self.path != "/events":
            return self.answer(404, {"error": "events go to /events"})
        event_type = self.headers.get("ce-type", "")
        if event_type not in ON_EVENT:
            return self.answer(400, {"error": f"no use for an event of type {event_type!r}"})
        try:
            data = dict(json.loads(body))
            if event_type == "ProductCreated" and not self.server.shows(data["image"]):
                return self.answer(422, {"error": f"cannot show the image {data['image']}: it is none of {self.server.images}"})
            self.server.database.apply(event_type, data)
        except NOT_THE_DATA as error:
            return self.answer(400, {"error": f"not the data of a {event_type}: {error!r}"})
        except sqlite3.Error as error:
            return self.answer(500, {"error": f"cannot note the event: {error}"})
        return self.answer(200, {})


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address, handler, database, images):
        self.database = database
        self.images = images  # the types of image that can be shown, such as "jpeg,png"
        super().__init__(address, handler)

    def shows(self, image):
        return image.rpartition(".")[2] in self.images.split(",")


def servers(path, images, questions=("", 8080), events=("127.0.0.1", 8081)):
    """The server of questions and the server of events, over the read model at this path."""
    database = Database(path)
    return Server(questions, Questions, database, images), Server(events, Events, database, images)


def main():
    missing = [name for name in ("DATABASE_PATH", "IMAGE_TYPES") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} not set: run history as history.yaml has it", file=sys.stderr)
        return 64
    questions, events = servers(os.environ["DATABASE_PATH"], os.environ["IMAGE_TYPES"])
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
