"""python3 -m unittest discover -s services/shop/history"""

import http.client
import json
import os
import re
import sqlite3
import tempfile
import textwrap
import threading
import unittest
from contextlib import closing

import history

# The tables, as Murmur makes them.
YAML = os.path.join(os.path.dirname(history.__file__), "..", "history.yaml")
with open(YAML, encoding="utf-8") as file:
    SCHEMA = textwrap.dedent(re.search(r"schema: \|\n((?: {6}.*\n)+)", file.read())[1])

PANTS = {"id": 5, "title": "pants", "image": "pants.jpeg"}
SHOES = {"id": 20, "title": "shoes", "image": "shoes.png"}


class HistoryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "service.db")
        self.addCleanup(setattr, history.Handler, "log_message", history.Handler.log_message)
        history.Handler.log_message = lambda *_: None  # the refusals below are meant
        server = history.Server(("127.0.0.1", 0), self.path)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.client = http.client.HTTPConnection(*server.server_address, timeout=10)
        self.addCleanup(self.client.close)

    def wrote(self, *statements):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
            for statement in statements:
                connection.execute(*statement)

    def get(self, path):
        self.client.request("GET", path)
        response = self.client.getresponse()
        return response.status, response.read().decode()

    def test_the_products_of_a_user_come_in_the_order_of_purchase(self):
        ordered = "INSERT INTO ordered (user, product) VALUES (?, ?)"
        product = "INSERT INTO products VALUES (:id, :title, :image)"
        self.wrote((ordered, (1, 20)), (ordered, (1, 5)), (ordered, (2, 5)), (product, PANTS))
        self.assertEqual(json.loads(self.get("/users/1/history")[1]), [PANTS])  # the other is not known yet
        self.wrote((product, SHOES))
        self.assertEqual(
            self.get("/users/1/history"),
            (200, '[{"id":20,"title":"shoes","image":"shoes.png"},{"id":5,"title":"pants","image":"pants.jpeg"}]'),
        )

    def test_a_user_without_orders_has_an_empty_history(self):
        self.wrote(("INSERT INTO users VALUES (1, 'Ada')",))
        self.assertEqual(self.get("/users/1/history"), (200, "[]"))
        self.assertEqual(self.get("/users/9/history")[0], 404)

    def test_a_product_whose_image_cannot_be_shown_is_none_of_the_tables(self):
        with self.assertRaises(sqlite3.IntegrityError):
            self.wrote(("INSERT INTO products VALUES (9, 'cape', 'cape.avif')",))

    def test_before_there_are_tables_it_asks_for_patience(self):
        self.assertEqual(self.get("/users/1/history")[0], 503)
        self.assertEqual(self.get("/readyz")[0], 200)

    def test_an_unknown_path_is_not_found(self):
        self.assertEqual(self.get("/users/x/history")[0], 404)
        self.assertEqual(self.get("/events")[0], 404)


if __name__ == "__main__":
    unittest.main()
