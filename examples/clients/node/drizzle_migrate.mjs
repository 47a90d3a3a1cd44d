// Runs the migrations of the folder drizzle that have not been run yet; by DATABASE_URL, or by PGHOST, PGUSER, ...
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await migrate(drizzle(pool), { migrationsFolder: fileURLToPath(new URL('drizzle', import.meta.url)) });
await pool.end();
