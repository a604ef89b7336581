#!/bin/sh
# Alive: the server says something, if only that it recovers or has too many connections.
pg_isready --quiet --host 127.0.0.1 --username service --dbname service --timeout 5
[ $? -ne 2 ]
