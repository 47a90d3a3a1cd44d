// Insert, be told when the vectors are there, search. node-postgres; by DATABASE_URL, or by PGHOST, PGUSER, ...
import { once } from 'node:events';
import pg from 'pg';

const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
await db.query('LISTEN autoembed'); // before the INSERT, so that no notification is missed

const inserted = await db.query(
  'INSERT INTO messages (customer, content) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id',
  [
    ['ann', 'ann', 'ben'],
    ['my parcel never arrived', 'please cancel my subscription', 'where is my package?'],
  ],
);
const ids = inserted.rows.map((row) => row.id);

// A notification tells of a batch, not of rows: so each time these are looked at. After ten seconds without one
// they are looked at as well, since a notification may be left out.
for (;;) {
  const told = once(db, 'notification', { signal: AbortSignal.timeout(10_000) }).catch(() => {});
  const underWay = await db.query(
    `SELECT count(*)::int AS rows FROM unnest($1::bigint[]) AS id, autoembed.job_status('messages', id::text) AS job
     WHERE job.state IN ('waiting', 'in_flight')`,
    [ids],
  );
  if (underWay.rows[0].rows === 0) break;
  await told;
}

const found = await db.query('SELECT content, similarity FROM similar_messages($1, k => $2, filter => $3)', [
  'delivery problems',
  2,
  { customer: 'ann' },
]);
for (const { content, similarity } of found.rows) console.log(similarity.toFixed(2), content);
await db.end();
