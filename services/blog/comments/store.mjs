// What comments keeps, in a MariaDB that no other service reaches: the ids of the posts that there are, and the comments.

import { readFileSync } from "node:fs";
import mysql from "mysql2/promise";

const TABLES = [
  "CREATE TABLE IF NOT EXISTS posts (id VARCHAR(64) PRIMARY KEY)",
  `CREATE TABLE IF NOT EXISTS comments (
     position BIGINT AUTO_INCREMENT UNIQUE, id VARCHAR(64) PRIMARY KEY, post VARCHAR(64) NOT NULL,
     text TEXT NOT NULL, written VARCHAR(32) NOT NULL, status VARCHAR(16) NOT NULL DEFAULT 'pending', KEY (post))`,
];

// What each event does. An event may come twice: no statement minds. Those of one post come in their order.
const ON_EVENT = {
  PostWritten: ({ id }) => ["INSERT IGNORE INTO posts VALUES (?)", [id]],
  CommentWritten: ({ id, post, text, written }) => [
    "INSERT INTO comments (id, post, text, written) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE id = id",
    [id, post, text, written],
  ],
  CommentModerated: ({ id, status }) => ["UPDATE comments SET status = ? WHERE id = ?", [status, id]],
};

// What the database answers to data of another shape: trying again would not help.
const NOT_THE_DATA = new Set(["ER_DATA_TOO_LONG", "ER_BAD_NULL_ERROR", "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD"]);

// An event that never can be noted.
export class Rejected extends Error {}

// connect gives the store that the environment names. Nothing is asked of the database yet.
export function connect(env) {
  const pool = mysql.createPool({
    host: env.DATABASE_HOST,
    port: Number(env.DATABASE_PORT),
    database: env.DATABASE_NAME,
    user: env.DATABASE_USER,
    password: env.DATABASE_PASSWORD,
    // the server must be who it says it is
    ssl: env.DATABASE_CA_FILE
      ? { ca: readFileSync(env.DATABASE_CA_FILE), rejectUnauthorized: true, verifyIdentity: true }
      : undefined,
    connectionLimit: 10,
    queueLimit: 200,
    connectTimeout: 5_000,
  });
  const ask = async (sql, values) => (await pool.query({ sql, values, timeout: 5_000 }))[0];

  return {
    // prepare makes the tables.
    async prepare() {
      for (const table of TABLES) await ask(table);
    },
    // hear notes an event.
    async hear(type, data) {
      const statement = ON_EVENT[type];
      if (!statement) throw new Rejected(`no use for an event of type ${type}`);
      const [sql, values] = statement(data);
      if (!values.every((value) => typeof value === "string")) throw new Rejected(`not the data of a ${type}`);
      try {
        await ask(sql, values);
      } catch (error) {
        throw NOT_THE_DATA.has(error.code) ? new Rejected(error.message) : error;
      }
    },
    // knows tells whether there is such a post.
    async knows(post) {
      return (await ask("SELECT 1 FROM posts WHERE id = ?", [post])).length > 0;
    },
    // of gives the comments on a post in their order.
    of(post) {
      return ask("SELECT id, post, text, written, status FROM comments WHERE post = ? ORDER BY position LIMIT 1000", [post]);
    },
    async one(post, id) {
      return (await ask("SELECT id, post, text, written, status FROM comments WHERE post = ? AND id = ?", [post, id]))[0];
    },
    close: () => pool.end(),
  };
}
