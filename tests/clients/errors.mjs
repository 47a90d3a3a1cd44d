// Where each client for Node has the SQLSTATE and the hint of an error, as docs/clients.md says.
import { sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import pg from 'pg';

const SEARCH = `SELECT * FROM similar_messages('x', filter => '{"nobody": 1}')`;
const pool = new pg.Pool();
await pool.query(SEARCH).catch((e) => console.log(['pg', e.code, e.message, e.hint].join('|')));
await drizzle(pool)
  .execute(sql.raw(SEARCH))
  .catch((e) => console.log(['Drizzle', e.cause.code, e.cause.message, e.cause.hint].join('|')));
await pool.end();
