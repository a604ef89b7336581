"""What moderation keeps, in a Redis that no other service reaches."""

import json

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

STATUSES = ("approved", "rejected")


class Rejected(Exception):
    """An event that never can be noted."""


class Conflict(Exception):
    """The comment was decided otherwise before."""


def connect(env):
    """The store that the environment names. Nothing is asked of the database yet."""
    ca = env.get("DATABASE_CA_FILE")
    secured = {"ssl": True, "ssl_ca_certs": ca, "ssl_cert_reqs": "required", "ssl_check_hostname": True} if ca else {}
    return Store(redis.Redis(
        host=env["DATABASE_HOST"],
        port=int(env["DATABASE_PORT"]),
        username=env["DATABASE_USER"],
        password=env["DATABASE_PASSWORD"],
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(NoBackoff(), 1),  # a kept connection may be closed; no more than that is waited for
        **secured,
    ))  # fmt: skip


class Store:
    """
    comments  id -> the comment as it was heard
    status    id -> the moderator's word as it was heard
    decided   id -> the moderator's word as it was given: the first one counts
    pending   the ids that wait, in the order in which they were heard
    """

    def __init__(self, server):
        self.server = server

    def hear(self, event_type, data, sequence):
        """Notes an event; it may come twice. Those of one post come in their order."""
        if event_type == "CommentWritten":
            comment = {name: text(data, name) for name in ("id", "post", "text")}
            with self.server.pipeline() as both:
                both.hset("comments", comment["id"], json.dumps(comment, ensure_ascii=False))
                if not self.server.hexists("status", comment["id"]):
                    both.zadd("pending", {comment["id"]: sequence})
                both.execute()
        elif event_type == "CommentModerated":
            comment, status = text(data, "id"), text(data, "status")
            if status not in STATUSES:
                raise Rejected(f"a comment is none of {STATUSES}: {status!r}")
            with self.server.pipeline() as both:
                both.hset("status", comment, status)
                both.zrem("pending", comment)
                both.execute()
        else:
            raise Rejected(f"no use for an event of type {event_type!r}")

    def comment(self, comment):
        """A comment with its status, or None."""
        kept = self.server.hget("comments", comment)
        return {**json.loads(kept), "status": self.server.hget("status", comment) or "pending"} if kept else None

    def pending(self, count):
        """The comments that wait for a moderator, the oldest first."""
        ids = self.server.zrange("pending", 0, count - 1)
        return [{**json.loads(kept), "status": "pending"} for kept in (self.server.hmget("comments", ids) if ids else []) if kept]

    def decide(self, comment, status):
        """The moderator's word is given, once: another word than the first is a Conflict."""
        if not self.server.hsetnx("decided", comment, status) and (first := self.server.hget("decided", comment)) != status:
            raise Conflict(f"the comment {comment} is {first}")


def text(data, name):
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, str) or not value or not value.isprintable() and name != "text":
        raise Rejected(f"{name} is no text")
    return value
