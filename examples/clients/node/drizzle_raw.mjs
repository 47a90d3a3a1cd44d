// Insert, wait, search. Drizzle over node-postgres; by DATABASE_URL, or by PGHOST, PGUSER, ...
import { sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { bigint, pgTable, text } from 'drizzle-orm/pg-core';
import pg from 'pg';

const messages = pgTable('messages', {
  id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  customer: text().notNull(),
  content: text().notNull(),
});

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const db = drizzle(pool);

await db.insert(messages).values([
  { customer: 'ann', content: 'my parcel never arrived' },
  { customer: 'ann', content: 'please cancel my subscription' },
  { customer: 'ben', content: 'where is my package?' },
]);
await db.execute(sql`SELECT autoembed.wait('messages')`);

// ${...} in sql`` is a parameter of the statement, not a part of its text.
const query = 'delivery problems';
const filter = JSON.stringify({ customer: 'ann' });
const found = await db.execute(
  sql`SELECT content, similarity FROM similar_messages(${query}, k => ${2}, filter => ${filter})`,
);
for (const { content, similarity } of found.rows) console.log(similarity.toFixed(2), content);
await pool.end();
