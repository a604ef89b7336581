"""python3 -m unittest discover -s services/shop/history"""

import http.client
import json
import os
import tempfile
import threading
import unittest

import history

PANTS = {"id": 5, "title": "pants", "image": "pants.jpeg"}
SHOES = {"id": 20, "title": "shoes", "image": "shoes.png"}


class HistoryTest(unittest.TestCase):
    images = "jpeg,png"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.start()
        self.addCleanup(setattr, history.Handler, "log_message", history.Handler.log_message)
        history.Handler.log_message = lambda *_: None  # the refusals below are meant

    def tearDown(self):
        self.stop()
        self.folder.cleanup()

    def start(self):
        free = ("127.0.0.1", 0)
        path = os.path.join(self.folder.name, "service.db")
        self.servers = history.servers(path, self.images, questions=free, events=free)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.questions, self.events = (http.client.HTTPConnection(*server.server_address, timeout=10) for server in self.servers)

    def stop(self):
        self.questions.close()
        self.events.close()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def event(self, event_type, data, client=None):
        body = data if isinstance(data, str) else json.dumps(data)
        client = client or self.events
        client.request("POST", "/events", body, {"ce-type": event_type, "content-type": "application/json"})
        response = client.getresponse()
        response.read()
        return response.status

    def get(self, path):
        self.questions.request("GET", path)
        response = self.questions.getresponse()
        return response.status, response.read().decode()

    def test_the_story_of_the_shop_gives_both_products_in_the_order_of_purchase(self):
        for event_type, data in [
            ("UserCreated", {"id": 1, "name": "Ada"}),
            ("ProductCreated", PANTS),
            ("ProductCreated", SHOES),
            ("OrderPlaced", {"id": "a", "user": 1, "product": 5}),
            ("OrderPlaced", {"id": "b", "user": 1, "product": 20}),
        ]:
            self.assertEqual(self.event(event_type, data), 200)
        self.assertEqual(
            self.get("/users/1/history"),
            (200, '[{"id":5,"title":"pants","image":"pants.jpeg"},{"id":20,"title":"shoes","image":"shoes.png"}]'),
        )

    def test_an_order_may_come_before_its_product_and_its_user(self):
        self.event("OrderPlaced", {"user": 1, "product": 20})
        self.event("OrderPlaced", {"user": 1, "product": 5})
        self.event("ProductCreated", PANTS)
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [PANTS])
        self.event("ProductCreated", SHOES)
        self.event("UserCreated", {"id": 1, "name": "Ada"})
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [SHOES, PANTS])

    def test_an_event_that_comes_twice_changes_nothing(self):
        for _ in range(2):
            self.event("ProductCreated", PANTS)
            self.event("OrderPlaced", {"user": 1, "product": 5})
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [PANTS])

    def test_the_data_outlives_the_process(self):
        self.event("UserCreated", {"id": 1, "name": "Ada"})
        self.stop()
        self.start()
        self.assertEqual(self.get("/users/1/history"), (200, "[]"))

    def test_nobody_can_bring_an_event_to_the_port_that_others_reach(self):
        self.assertEqual(self.event("UserCreated", {"id": 1, "name": "Eve"}, client=self.questions), 501)
        self.questions.close()
        self.assertEqual(self.get("/users/1/history")[0], 404)

    def test_an_image_that_cannot_be_shown_is_rejected_until_the_service_is_mended(self):
        cape = {"id": 9, "title": "cape", "image": "cape.avif"}
        self.event("UserCreated", {"id": 1, "name": "Ada"})
        self.event("OrderPlaced", {"user": 1, "product": 9})
        self.assertEqual(self.event("ProductCreated", cape), 422)
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [])
        self.stop()
        self.images = "jpeg,png,avif"
        self.start()
        self.assertEqual(self.event("ProductCreated", cape), 200)
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [cape])

    def test_a_broken_event_is_rejected_for_good(self):
        wrong = [{"id": 5}, {**PANTS, "title": None}, {**PANTS, "title": []}, {**PANTS, "image": 7}, {**PANTS, "id": 1 << 70}, {**PANTS, "id": "x"}]
        for data in ["{", "[]", "7", "[" * 100_000, "\x00", '"text"', *wrong]:
            self.assertEqual(self.event("ProductCreated", data), 400, data)
        self.assertEqual(self.event("Unheard", PANTS), 400)
        self.assertEqual(self.get("/readyz")[0], 200)

    def test_an_unknown_path_is_not_found(self):
        self.assertEqual(self.get("/users/x/history")[0], 404)
        self.assertEqual(self.get("/users/1/history")[0], 404)


if __name__ == "__main__":
    unittest.main()
