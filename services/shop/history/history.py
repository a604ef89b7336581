"""history is service D of the shop: what did this user ever order?

It asks no other service and hears no events. Its tables are a projection
(see history.yaml), which Murmur keeps up to date in a database of its own. So
it answers at once, also while the other services are down.

Ordinary Python with its standard library; nothing here knows of events.
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

HISTORY = """
SELECT products.id, title, image FROM ordered JOIN products ON products.id = ordered.product
WHERE ordered.user = ? ORDER BY position
"""


def history(path, user):
    """The products that a user ordered, in the order of purchase; None if nobody ever heard of the user."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        rows = connection.execute(HISTORY, (user,)).fetchall()
        known = rows or connection.execute("SELECT 1 FROM users WHERE id = ?", (user,)).fetchone()
    return [dict(zip(("id", "title", "image"), row)) for row in rows] if known else None


class Handler(BaseHTTPRequestHandler):
    """What everyone may ask."""

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

    def do_GET(self):
        if self.path == "/readyz":
            return self.answer(200, "ready")
        asked = re.fullmatch(r"/users/(\d{1,18})/history", self.path)
        if not asked:
            return self.answer(404, {"error": "ask for /users/{id}/history"})
        try:
            ordered = history(self.server.path, int(asked[1]))
        except sqlite3.Error as error:  # so new that there is no table yet, for one
            return self.answer(503, {"error": f"the database does not answer: {error}"})
        return self.answer(404, {"error": f"there is no user {asked[1]}"}) if ordered is None else self.answer(200, ordered)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address, path):
        self.path = path  # of the read model, an SQLite file
        super().__init__(address, Handler)


def main():
    path = os.environ.get("DATABASE_PATH")
    if not path:
        print("DATABASE_PATH is not set: run history as history.yaml has it", file=sys.stderr)
        return 64
    server = Server(("", 8080), path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
