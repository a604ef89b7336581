#!/bin/sh
# Alive: the server says something, if only that it loads its data, or that nobody has said who is there.
timeout 8 redis-cli -s /run/redis/socket PING >/dev/null
