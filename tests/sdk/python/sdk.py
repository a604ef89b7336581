"""The CloudEvents SDK for Python as a client of a sidecar and as a receiver: see ../README.md."""

import base64
import json
import sys
import urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_http_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent


def publish(url):
    for mode, encode in (("binary", to_binary_event), ("structured", to_structured_event)):
        for kind, content_type, data in (
            ("json", "application/json", {"text": "größer 😀", "number": 5}),
            ("bytes", "application/octet-stream", b"\x00\xff\n"),
        ):
            attributes = {
                "id": f"python-{mode}-{kind}",
                "source": "/sdk/python",
                "type": "Tick",
                "subject": "größe 1%",
                "time": datetime(2026, 11, 21, 9, tzinfo=timezone.utc),
                "datacontenttype": content_type,
                "partitionkey": "k",
                "remark": 'naïve "quote"',
            }
            message = encode(CloudEvent(attributes, data))
            body = message.body.encode() if isinstance(message.body, str) else message.body
            request = urllib.request.Request(url, data=body, headers=message.headers, method="POST")
            # Anything but 2xx raises.
            urllib.request.urlopen(request, timeout=30).close()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        event = from_http_event(HTTPMessage(headers=dict(self.headers.items()), body=body))
        data = event.get_data()
        if isinstance(data, bytes):
            data = base64.b64encode(data).decode()
        names = ("id", "source", "type", "subject", "datacontenttype", "partitionkey", "remark")
        seen = {name: event.get_attributes().get(name) for name in names}
        time = event.get_time().astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        sys.stdout.write(json.dumps(seen | {"time": time, "data": data}) + "\n")
        sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["publish", url]:
            publish(url)
        case ["receive", port]:
            ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()
        case _:
            sys.exit("usage: sdk.py publish URL | receive PORT")
