CREATE TABLE IF NOT EXISTS murmur_outbox (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  type TEXT NOT NULL,
  source TEXT,
  subject TEXT,
  partitionkey TEXT,
  data,
  data_base64 TEXT,
  datacontenttype TEXT DEFAULT 'application/json',
  time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  extensions TEXT,
  traceparent TEXT
);
CREATE TABLE IF NOT EXISTS murmur_outbox_refused (
  position INTEGER NOT NULL,
  id TEXT, type TEXT, source TEXT, subject TEXT, partitionkey TEXT, data, data_base64 TEXT,
  datacontenttype TEXT, time TEXT, extensions TEXT, traceparent TEXT,
  cause TEXT NOT NULL,
  refused TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS murmur_outbox_relay (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  stream TEXT,
  sequence INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO murmur_outbox_relay (one) VALUES (1);
