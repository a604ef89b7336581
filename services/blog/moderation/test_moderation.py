"""services/with-database.sh redis python3 -m unittest discover -s services/blog/moderation"""

import http.client
import json
import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import moderation
import store


class Sidecar(BaseHTTPRequestHandler):
    status = 200
    published = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.published.append((self.path, self.headers["ce-id"], self.headers["ce-partitionkey"], json.loads(body)))
        self.send_response(self.status)
        self.send_header("retry-after", "3")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def written(number, post="1"):
    return {"id": f"c{number}", "post": post, "text": f"comment {number}\nof two lines", "written": "2026-11-21T20:00:00Z"}


class ModerationTest(unittest.TestCase):
    def setUp(self):
        self.store = store.connect(os.environ)
        self.store.server.flushall()
        Sidecar.status = 200
        Sidecar.published = []
        self.addCleanup(setattr, moderation.Handler, "log_message", moderation.Handler.log_message)
        moderation.Handler.log_message = lambda *_: None  # the refusals below are meant
        self.sidecar = self.run_server(ThreadingHTTPServer(("127.0.0.1", 0), Sidecar))
        self.questions, self.events = self.service(self.store)

    def service(self, kept):
        free = ("127.0.0.1", 0)
        murmur = "http://127.0.0.1:%d" % self.sidecar.server_address[1]
        return [self.client(self.run_server(server)) for server in moderation.servers(kept, murmur, questions=free, events=free)]

    def run_server(self, server):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def client(self, server):
        client = http.client.HTTPConnection(*server.server_address, timeout=10)
        self.addCleanup(client.close)
        return client

    def ask(self, method, path, body=None, client=None, headers=()):
        client = client or self.questions
        body = json.dumps(body) if body is not None and not isinstance(body, str) else body
        client.request(method, path, body, dict(headers))
        response = client.getresponse()
        text = response.read().decode()
        self.retry_after = response.headers.get("retry-after")
        return response.status, json.loads(text)

    def hear(self, event_type, data, sequence=1, client=None):
        headers = {"ce-type": event_type, "murmur-sequence": str(sequence)}
        return self.ask("POST", "/events", data, client or self.events, headers)[0]

    def pending(self):
        status, comments = self.ask("GET", "/comments?status=pending")
        self.assertEqual(status, 200)
        return [comment["id"] for comment in comments]

    def test_a_comment_is_pending_until_a_moderator_decides(self):
        self.assertEqual(self.hear("CommentWritten", written(1)), 200)
        comment = {"id": "c1", "post": "1", "text": "comment 1\nof two lines", "status": "pending"}
        self.assertEqual(self.ask("GET", "/comments"), (200, [comment]))
        approved = {**comment, "status": "approved"}
        self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "approved"}), (200, approved))
        event = {"id": "c1", "post": "1", "status": "approved"}
        self.assertEqual(Sidecar.published, [("/v1/events/CommentModerated", "moderated-c1", "post-1", event)])
        self.assertEqual(self.pending(), ["c1"])  # until it hears itself
        self.assertEqual(self.hear("CommentModerated", event), 200)
        self.assertEqual(self.pending(), [])
        self.assertEqual(self.ask("GET", "/comments/c1"), (200, approved))

    def test_comments_wait_in_the_order_in_which_they_were_written(self):
        for number in (3, 1, 20):
            self.hear("CommentWritten", written(number), sequence=number)
        self.assertEqual(self.pending(), ["c1", "c3", "c20"])

    def test_events_that_come_twice_change_nothing(self):
        for _ in range(2):
            self.hear("CommentWritten", written(1))
        self.assertEqual(self.pending(), ["c1"])
        for _ in range(2):
            self.hear("CommentModerated", {"id": "c1", "post": "1", "status": "rejected"})
        self.hear("CommentWritten", written(1))
        self.assertEqual(self.pending(), [])
        self.assertEqual(self.ask("GET", "/comments/c1")[1]["status"], "rejected")

    def test_the_first_word_counts_and_may_be_repeated(self):
        self.hear("CommentWritten", written(1))
        for _ in range(2):
            self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "rejected"})[0], 200)
        self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "approved"})[0], 409)
        self.assertEqual({event["status"] for *_, event in Sidecar.published}, {"rejected"})

    def test_a_word_that_the_bus_cannot_take_is_asked_for_again(self):
        self.hear("CommentWritten", written(1))
        for status in (429, 503, 504, 507):
            Sidecar.status = status
            self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "approved"})[0], 503)
            self.assertEqual(self.retry_after, "3")
        Sidecar.status = 403
        self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "approved"})[0], 500)
        Sidecar.status = 200
        self.assertEqual(self.ask("PUT", "/comments/c1", {"status": "approved"})[0], 200)

    def test_wrong_requests_are_refused(self):
        self.hear("CommentWritten", written(1))
        for body in ("{", "[]", "7", {}, {"status": "pending"}, {"status": ["approved"]}):
            self.assertEqual(self.ask("PUT", "/comments/c1", body)[0], 400, body)
        self.assertEqual(self.ask("PUT", "/comments/none", {"status": "approved"})[0], 404)
        self.assertEqual(self.ask("GET", "/comments/none")[0], 404)
        self.assertEqual(self.ask("GET", "/posts")[0], 404)
        self.assertEqual(Sidecar.published, [])

    def test_an_event_of_another_shape_is_rejected_for_good(self):
        shapes = ["{", "[" * 100_000, "[]", "7", {}, {**written(1), "id": 7}, {**written(1), "text": None}, {**written(1), "id": "\x00"}]
        for data in shapes:
            self.assertIn(self.hear("CommentWritten", data), (400, 422), data)
        self.assertEqual(self.hear("CommentModerated", {"id": "c1", "status": "liked"}), 422)
        self.assertEqual(self.hear("Unheard", written(1)), 422)
        self.assertEqual(self.pending(), [])

    def test_while_the_database_is_away_events_wait_and_questions_fail(self):
        questions, events = self.service(store.connect({**os.environ, "DATABASE_PORT": "1"}))
        self.assertEqual(self.hear("CommentWritten", written(1), client=events), 503)
        self.assertEqual(self.ask("GET", "/comments", client=questions)[0], 503)
        self.assertEqual(self.ask("GET", "/readyz", client=questions)[0], 200)


if __name__ == "__main__":
    unittest.main()
