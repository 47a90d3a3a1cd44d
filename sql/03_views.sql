-- Views that show only some rows to a reader are security barriers: or his own functions in a WHERE could see the others first.
CREATE VIEW autoembed.status WITH (security_barrier) AS
SELECT v.id,
       v.source,
       v.embedding,
       v.model,
       CASE WHEN l.misfit IS NOT NULL THEN pg_catalog.concat('blocked: ', l.misfit)
            WHEN v.paused THEN 'paused'
            -- What the last worker wrote down may be over.
            WHEN (q.waiting OPERATOR(pg_catalog.>) 0::bigint OR q.in_flight OPERATOR(pg_catalog.>) 0::bigint OR b.remaining OPERATOR(pg_catalog.>) 0::bigint) AND NOT w.is_there
                 AND NOT pg_catalog.pg_is_in_recovery()
                THEN 'active: no worker serves this database; its rows wait for one, or for autoembed.embed_pending()'
            -- An error of the table may quote its rows.
            WHEN s.is_block AND NOT autoembed.sees_all_rows(v.source) THEN 'blocked: what stops it is shown to those who see all rows of the table'
            WHEN s.is_block THEN pg_catalog.concat('blocked: ', s.message, '; ', s.hint)
            WHEN m.state OPERATOR(pg_catalog.=) 'blocked' THEN pg_catalog.concat('blocked: ', m.message, '; ', m.hint)
            WHEN m.state OPERATOR(pg_catalog.=) 'paced' THEN pg_catalog.concat('active: ', m.message)
            WHEN m.state OPERATOR(pg_catalog.=) 'waiting' THEN pg_catalog.concat('active: waiting for the API, which answered: ', m.message, '; ', m.hint)
            WHEN NOT s.is_block AND autoembed.sees_all_rows(v.source) THEN pg_catalog.concat('active: ', s.message, '; ', s.hint)
            ELSE 'active' END AS state,
       COALESCE(q.waiting, 0::bigint) OPERATOR(pg_catalog.+) b.remaining AS pending,
       COALESCE(q.in_flight, 0::bigint) AS in_flight,
       (SELECT pg_catalog.count(*) FROM autoembed.failed f WHERE f.vectorizer_id OPERATOR(pg_catalog.=) v.id) AS failed,
       v.embedded OPERATOR(pg_catalog.+) r.rows AS embedded,
       v.truncated OPERATOR(pg_catalog.+) r.truncated AS truncated,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.oldest AS oldest_pending_age,
       p.rows_per_second,
       CASE WHEN p.rows_per_second OPERATOR(pg_catalog.>) 0::real
            THEN pg_catalog.make_interval(secs => (COALESCE(q.waiting, 0::bigint) OPERATOR(pg_catalog.+) COALESCE(q.in_flight, 0::bigint)
                 OPERATOR(pg_catalog.+) b.remaining)::pg_catalog.float8 OPERATOR(pg_catalog./) p.rows_per_second::pg_catalog.float8) END AS eta
FROM autoembed.vectorizer v
CROSS JOIN (SELECT autoembed.misfit() AS misfit) l
LEFT JOIN autoembed.model_state m ON m.model OPERATOR(pg_catalog.=) v.model
LEFT JOIN (SELECT t.vectorizer_id, t.message, t.hint, t.code OPERATOR(pg_catalog.<>) ALL (ARRAY['index', 'locked']) AS is_block
           FROM autoembed.vectorizer_state t) s ON s.vectorizer_id OPERATOR(pg_catalog.=) v.id
CROSS JOIN (SELECT EXISTS (SELECT FROM autoembed.worker_activity() a WHERE a.kind OPERATOR(pg_catalog.=) 'worker') AS is_there) w
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE j.leased_until IS NULL OR j.leased_until OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) AS waiting,
           pg_catalog.count(*) FILTER (WHERE j.leased_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) AS in_flight,
           pg_catalog.min(j.queued_at) AS oldest
    FROM autoembed.job j WHERE j.vectorizer_id OPERATOR(pg_catalog.=) v.id) q
CROSS JOIN LATERAL (
    SELECT COALESCE(pg_catalog.max(CASE WHEN f.total OPERATOR(pg_catalog.>) f.walked THEN f.total OPERATOR(pg_catalog.-) f.walked END)
                    FILTER (WHERE f.walked_at IS NULL), 0::bigint) AS remaining
    FROM autoembed.backfill f WHERE f.vectorizer_id OPERATOR(pg_catalog.=) v.id) b
CROSS JOIN LATERAL (
    SELECT COALESCE(pg_catalog.sum(t.rows), 0::bigint)::bigint AS rows,
           COALESCE(pg_catalog.sum(t.truncated), 0::bigint)::bigint AS truncated
    FROM autoembed.request t WHERE t.vectorizer_id OPERATOR(pg_catalog.=) v.id) r
LEFT JOIN LATERAL (
    SELECT (pg_catalog.sum(t.rows)::pg_catalog.float8 OPERATOR(pg_catalog./) CASE WHEN w.seconds OPERATOR(pg_catalog.>) 0.001::pg_catalog.float8 THEN w.seconds ELSE 0.001::pg_catalog.float8 END)::real AS rows_per_second
    FROM (SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) (pg_catalog.min(u.at) OPERATOR(pg_catalog.-)
                     pg_catalog.make_interval(secs => pg_catalog.max(u.ms)::pg_catalog.float8 OPERATOR(pg_catalog./) 1000::pg_catalog.float8))) AS seconds
          FROM autoembed.request u
          WHERE u.vectorizer_id OPERATOR(pg_catalog.=) v.id
            AND u.at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 min'::interval)) w
    CROSS JOIN autoembed.request t
    WHERE t.vectorizer_id OPERATOR(pg_catalog.=) v.id
      AND t.at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 min'::interval)
    GROUP BY w.seconds) p ON true
WHERE pg_catalog.has_table_privilege(v.source, 'SELECT');
COMMENT ON VIEW autoembed.status IS 'One row a vectorizer, for tables that the reader may read';
COMMENT ON COLUMN autoembed.status.state IS 'active, paused, or blocked: why, and what to do';
COMMENT ON COLUMN autoembed.status.pending IS 'jobs that wait, and rows that a backfill has still to walk';
COMMENT ON COLUMN autoembed.status.in_flight IS 'jobs that a worker holds a lease on';
COMMENT ON COLUMN autoembed.status.failed IS 'jobs given up: see failed_jobs';
COMMENT ON COLUMN autoembed.status.embedded IS 'vectors written so far';
COMMENT ON COLUMN autoembed.status.truncated IS 'how many of them are of a text that was cut to what the model takes';
COMMENT ON COLUMN autoembed.status.oldest_pending_age IS 'since the oldest unfinished job was queued';
COMMENT ON COLUMN autoembed.status.rows_per_second IS 'vectors written a second, over the last minute';
COMMENT ON COLUMN autoembed.status.eta IS 'time to the end of what is pending, at that rate';

CREATE VIEW autoembed.failed_jobs WITH (security_barrier) AS
SELECT f.id, v.source, v.embedding, f.key, f.attempts, f.code, f.message, f.hint, f.failed_at
FROM autoembed.failed f
JOIN autoembed.vectorizer v ON v.id OPERATOR(pg_catalog.=) f.vectorizer_id
WHERE autoembed.sees_all_rows(v.source);
COMMENT ON VIEW autoembed.failed_jobs IS 'Rows given up, with the reason, of tables all of whose rows the reader may read; retry_failed() queues them again';
COMMENT ON COLUMN autoembed.failed_jobs.key IS 'primary key of the row';
COMMENT ON COLUMN autoembed.failed_jobs.code IS 'the kind of error, for programs';
COMMENT ON COLUMN autoembed.failed_jobs.message IS 'the error, in the server''s own words where it gave any';

CREATE VIEW autoembed.workers AS
SELECT w.pid, w.database, w.kind, w.state, w.started_at FROM autoembed.worker_activity() w;
COMMENT ON VIEW autoembed.workers IS 'The background workers that serve this database, and the launcher';
COMMENT ON COLUMN autoembed.workers.kind IS 'launcher, worker or indexer';

CREATE VIEW autoembed.requests WITH (security_barrier) AS
SELECT t.id, t.at, v.source, v.embedding, t.model, t.inputs, t.rows, t.cached, t.truncated, t.tokens, t.cost, t.ms, t.status, t.error_code
FROM autoembed.request t
JOIN autoembed.vectorizer v ON v.id OPERATOR(pg_catalog.=) t.vectorizer_id
WHERE autoembed.sees_all_rows(v.source);
COMMENT ON VIEW autoembed.requests IS 'What each request did, newest last, for tables all of whose rows the reader may read; kept for autoembed.request_retention';
COMMENT ON COLUMN autoembed.requests.inputs IS 'texts sent; 0: no request was made, the vectors were remembered';
COMMENT ON COLUMN autoembed.requests.rows IS 'rows whose vector was written';
COMMENT ON COLUMN autoembed.requests.cached IS 'texts that were not sent, because their vector was remembered or just being fetched';
COMMENT ON COLUMN autoembed.requests.truncated IS 'rows whose text was cut to what the model takes';
COMMENT ON COLUMN autoembed.requests.tokens IS 'as the server counted; estimated where it does not say';
COMMENT ON COLUMN autoembed.requests.cost IS 'US dollars, by the model''s price when it was sent';
COMMENT ON COLUMN autoembed.requests.ms IS 'milliseconds from sending the request to its answer';
COMMENT ON COLUMN autoembed.requests.status IS 'HTTP status; NULL where there was no answer or no HTTP';

CREATE VIEW autoembed.usage AS
SELECT u.model, u.day,
       pg_catalog.sum(u.requests)::bigint AS requests,
       pg_catalog.sum(u.inputs)::bigint AS inputs,
       pg_catalog.sum(u.tokens)::bigint AS tokens,
       pg_catalog.round(pg_catalog.sum(u.cost)::numeric, 6) AS cost,
       pg_catalog.sum(u.errors)::bigint AS errors,
       pg_catalog.sum(u.cache_hits)::bigint AS cache_hits
FROM (SELECT d.model, d.day, d.requests, d.inputs, d.tokens, d.cost, d.errors, d.cache_hits FROM autoembed.usage_day d
      UNION ALL
      SELECT s.model, s.day, s.requests, s.inputs, s.tokens, s.cost, s.errors, s.cache_hits FROM autoembed.session_usage() s
      UNION ALL
      SELECT t.model, (pg_catalog.timezone('UTC', t.at))::pg_catalog.date, (t.inputs OPERATOR(pg_catalog.>) 0)::int, t.inputs,
             COALESCE(t.tokens, 0::bigint), t.cost, (t.error_code IS NOT NULL)::int, t.cached
      FROM autoembed.request t WHERE NOT t.noted) u
GROUP BY u.model, u.day;
COMMENT ON VIEW autoembed.usage IS 'What each model has cost a day (UTC), the worker''s requests and those of embed() and searches; for members of pg_monitor';
GRANT SELECT ON autoembed.usage TO pg_monitor;
COMMENT ON COLUMN autoembed.usage.day IS 'in UTC';
COMMENT ON COLUMN autoembed.usage.requests IS 'requests sent, failed ones too';
COMMENT ON COLUMN autoembed.usage.inputs IS 'texts sent';
COMMENT ON COLUMN autoembed.usage.tokens IS 'as the servers counted; estimated where they do not say';
COMMENT ON COLUMN autoembed.usage.cost IS 'US dollars, by the option price_per_million_tokens of the model when each request was sent';
COMMENT ON COLUMN autoembed.usage.errors IS 'requests that failed';
COMMENT ON COLUMN autoembed.usage.cache_hits IS 'texts that were not sent, because their vector was remembered';

GRANT SELECT ON autoembed.status, autoembed.failed_jobs, autoembed.workers, autoembed.requests TO PUBLIC;
