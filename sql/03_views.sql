-- Views that show only some rows to a reader are security barriers: or his own functions in a WHERE could see the others first.
CREATE VIEW autoembed.status WITH (security_barrier) AS
SELECT v.id,
       v.source,
       v.embedding,
       v.model,
       CASE WHEN l.misfit IS NOT NULL THEN pg_catalog.concat('blocked: ', l.misfit)
            WHEN v.paused THEN 'paused'
            -- What the last worker wrote down may be over.
            WHEN y.sees_all AND (q.waiting OPERATOR(pg_catalog.>) 0::bigint OR q.in_flight OPERATOR(pg_catalog.>) 0::bigint OR b.remaining OPERATOR(pg_catalog.>) 0::bigint) AND NOT w.is_there
                 AND NOT pg_catalog.pg_is_in_recovery()
                THEN 'active: no worker serves this database; its rows wait for one, or for autoembed.embed_pending()'
            -- An error of the table may quote its rows.
            WHEN s.is_block AND NOT y.sees_all THEN 'blocked: what stops it is shown to those who see all rows of the table'
            WHEN s.is_block THEN pg_catalog.concat('blocked: ', s.message, '; ', s.hint)
            WHEN m.state OPERATOR(pg_catalog.=) 'blocked' THEN pg_catalog.concat('blocked: ', m.message, '; ', m.hint)
            WHEN m.state OPERATOR(pg_catalog.=) 'paced' THEN pg_catalog.concat('active: ', m.message)
            WHEN m.state OPERATOR(pg_catalog.=) 'waiting' THEN pg_catalog.concat('active: waiting for the API, which answered: ', m.message, '; ', m.hint)
            WHEN c.is_block AND NOT y.sees_all THEN 'blocked: what stops it is shown to those who see all rows of the table'
            -- The lock by which the worker asks for a process.
            WHEN y.sees_all AND (b.remaining OPERATOR(pg_catalog.=) 0::bigint AND (v.index_wanted OR v.text_index_wanted) OR c.is_index_due)
                 AND EXISTS (SELECT FROM pg_catalog.pg_locks k WHERE k.locktype OPERATOR(pg_catalog.=) 'object' AND k.objsubid OPERATOR(pg_catalog.=) 24938::smallint
                             AND k.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid AND k.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
                             AND k.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
                THEN pg_catalog.concat('active: ', 'changing to model "' OPERATOR(pg_catalog.||) c.model OPERATOR(pg_catalog.||) '": ',
                     'an index waits for a process, since max_worker_processes is used up; where it lasts, raise it and restart the server')
            WHEN c.model IS NOT NULL AND NOT y.sees_all THEN pg_catalog.concat('active: changing to model "', c.model, '"')
            WHEN c.model IS NOT NULL THEN c.state
            WHEN v.build_after OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() AND y.sees_all
                THEN pg_catalog.concat('active: the build of an index gave way to a session that wanted the table; it begins again after ',
                     pg_catalog.to_char(v.build_after, 'HH24:MI:SS'))
            WHEN (NOT s.is_block OR v.text_index_trouble IS NOT NULL) AND y.sees_all
                THEN pg_catalog.concat('active: ', pg_catalog.concat_ws('; ', s.message, s.hint, v.text_index_trouble))
            ELSE 'active' END AS state,
       -- How many rows there are, and what becomes of them, is told to those who see all of them.
       CASE WHEN y.sees_all THEN COALESCE(q.waiting, 0::bigint) OPERATOR(pg_catalog.+) b.remaining END AS pending,
       CASE WHEN y.sees_all THEN COALESCE(q.in_flight, 0::bigint) END AS in_flight,
       CASE WHEN y.sees_all THEN (SELECT pg_catalog.count(*) FROM autoembed.failed f WHERE f.vectorizer_id OPERATOR(pg_catalog.=) v.id) END AS failed,
       CASE WHEN y.sees_all THEN v.embedded OPERATOR(pg_catalog.+) COALESCE(r.rows, 0::bigint) END AS embedded,
       CASE WHEN y.sees_all THEN v.truncated OPERATOR(pg_catalog.+) COALESCE(r.truncated, 0::bigint) END AS truncated,
       CASE WHEN y.sees_all THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.oldest END AS oldest_pending_age,
       CASE WHEN y.sees_all THEN p.rows_per_second END AS rows_per_second,
       CASE WHEN y.sees_all AND p.rows_per_second OPERATOR(pg_catalog.>) 0::real
            THEN pg_catalog.make_interval(secs => (COALESCE(q.waiting, 0::bigint) OPERATOR(pg_catalog.+) COALESCE(q.in_flight, 0::bigint)
                 OPERATOR(pg_catalog.+) b.remaining)::pg_catalog.float8 OPERATOR(pg_catalog./) p.rows_per_second::pg_catalog.float8) END AS eta
FROM autoembed.vectorizer v
CROSS JOIN LATERAL (SELECT autoembed.sees_all_rows(v.source) AS sees_all) y
CROSS JOIN (SELECT autoembed.misfit() AS misfit) l
LEFT JOIN autoembed.model_state m ON m.model OPERATOR(pg_catalog.=) v.model
LEFT JOIN (SELECT t.vectorizer_id, t.message, t.hint, t.code OPERATOR(pg_catalog.<>) ALL (ARRAY['index', 'locked']) AS is_block
           FROM autoembed.vectorizer_state t) s ON s.vectorizer_id OPERATOR(pg_catalog.=) v.id
CROSS JOIN (SELECT EXISTS (SELECT FROM autoembed.worker_activity() a WHERE a.kind OPERATOR(pg_catalog.=) 'worker') AS is_there) w
-- A change of model that is under way.
LEFT JOIN LATERAL (
    SELECT n.model,
           COALESCE(n.held_up_by OPERATOR(pg_catalog.~~) 'blocked%', false) OR t.message IS NOT NULL AS is_block,
           (n.index_wanted OR n.text_index_wanted) AND (u.walked_at IS NOT NULL OR u.vectorizer_id IS NULL) AS is_index_due,
           CASE WHEN t.message IS NOT NULL THEN pg_catalog.concat('blocked: changing to model "', n.model, '": ', t.message, '; ', t.hint)
                WHEN d.state OPERATOR(pg_catalog.=) 'blocked' THEN pg_catalog.concat('blocked: changing to model "', n.model, '": ', d.message, '; ', d.hint)
                WHEN d.state IS NOT NULL THEN pg_catalog.concat('active: changing to model "', n.model, '": waiting for the API, which answered: ', d.message, '; ', d.hint)
                WHEN NOT w.is_there AND NOT pg_catalog.pg_is_in_recovery()
                    THEN COALESCE(n.held_up_by, pg_catalog.concat('active: changing to model "', n.model, '": no worker serves this database; it waits for one, or for autoembed.embed_pending()'))
                WHEN n.held_up_by IS NOT NULL THEN n.held_up_by
                WHEN n.build_after OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
                    THEN pg_catalog.concat('active: changing to model "', n.model, '": the build of an index gave way to a session that wanted the table; it begins again after ',
                         pg_catalog.to_char(n.build_after, 'HH24:MI:SS'))
                WHEN u.walked_at IS NULL AND u.vectorizer_id IS NOT NULL
                    THEN pg_catalog.concat('active: changing to model "', n.model, '": ', u.walked, ' of about ', GREATEST(u.total, u.walked), ' rows are on their way')
                ELSE pg_catalog.concat('active: changing to model "', n.model, '"') END AS state
    FROM autoembed.vectorizer n
    LEFT JOIN autoembed.model_state d ON d.model OPERATOR(pg_catalog.=) n.model AND d.state OPERATOR(pg_catalog.<>) 'paced'
    LEFT JOIN autoembed.vectorizer_state t ON t.vectorizer_id OPERATOR(pg_catalog.=) n.id AND t.code OPERATOR(pg_catalog.<>) ALL (ARRAY['index', 'locked'])
    LEFT JOIN autoembed.backfill u ON u.vectorizer_id OPERATOR(pg_catalog.=) n.id
    WHERE n.replaces OPERATOR(pg_catalog.=) v.id) c ON true
-- Each table is read once, however many vectorizers there are.
LEFT JOIN autoembed.queue_counts() q ON q.vectorizer OPERATOR(pg_catalog.=) v.id
CROSS JOIN LATERAL (
    SELECT COALESCE(pg_catalog.max(CASE WHEN f.total OPERATOR(pg_catalog.>) f.walked THEN f.total OPERATOR(pg_catalog.-) f.walked END)
                    FILTER (WHERE f.walked_at IS NULL), 0::bigint) AS remaining
    FROM autoembed.backfill f WHERE f.vectorizer_id OPERATOR(pg_catalog.=) v.id) b
LEFT JOIN (
    SELECT t.vectorizer_id, pg_catalog.sum(t.rows)::bigint AS rows, pg_catalog.sum(t.truncated)::bigint AS truncated
    FROM autoembed.request t GROUP BY t.vectorizer_id) r ON r.vectorizer_id OPERATOR(pg_catalog.=) v.id
LEFT JOIN (
    SELECT w.vectorizer_id,
           (w.rows::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(w.seconds, 0.001::pg_catalog.float8))::real AS rows_per_second
    FROM (SELECT u.vectorizer_id, pg_catalog.sum(u.rows) AS rows,
                 pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) (pg_catalog.min(u.at) OPERATOR(pg_catalog.-)
                     pg_catalog.make_interval(secs => pg_catalog.max(u.ms)::pg_catalog.float8 OPERATOR(pg_catalog./) 1000::pg_catalog.float8))) AS seconds
          FROM autoembed.request u
          WHERE u.at OPERATOR(pg_catalog.>) (pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) '1 min'::interval)
          GROUP BY u.vectorizer_id) w) p ON p.vectorizer_id OPERATOR(pg_catalog.=) v.id
WHERE pg_catalog.has_table_privilege(v.source, 'SELECT') AND v.replaces IS NULL
ORDER BY v.id;
COMMENT ON VIEW autoembed.status IS 'One row a vectorizer, for tables that the reader may read; a change of model is shown with the one that it changes. Numbers are NULL for readers from whom a policy hides rows';
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
SELECT f.id, v.source, COALESCE(o.embedding, v.embedding) AS embedding, f.key, f.attempts, f.code, f.message, f.hint, f.failed_at
FROM autoembed.failed f
JOIN autoembed.vectorizer v ON v.id OPERATOR(pg_catalog.=) f.vectorizer_id
LEFT JOIN autoembed.vectorizer o ON o.id OPERATOR(pg_catalog.=) v.replaces
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
SELECT t.id, t.at, v.source, COALESCE(o.embedding, v.embedding) AS embedding, t.model, t.inputs, t.rows, t.cached, t.truncated, t.tokens, t.cost, t.ms, t.status, t.error_code,
       t.waited_ms, t.pending
FROM autoembed.request t
JOIN autoembed.vectorizer v ON v.id OPERATOR(pg_catalog.=) t.vectorizer_id
LEFT JOIN autoembed.vectorizer o ON o.id OPERATOR(pg_catalog.=) v.replaces
WHERE autoembed.sees_all_rows(v.source);
COMMENT ON VIEW autoembed.requests IS 'What each request did, newest last, for tables all of whose rows the reader may read; kept for autoembed.request_retention';
COMMENT ON COLUMN autoembed.requests.inputs IS 'texts sent; 0: no request was made, the vectors were remembered';
COMMENT ON COLUMN autoembed.requests.rows IS 'rows whose vector was written';
COMMENT ON COLUMN autoembed.requests.cached IS 'texts that were not sent, because their vector was remembered or just being fetched';
COMMENT ON COLUMN autoembed.requests.truncated IS 'rows whose text was cut to what the model takes';
COMMENT ON COLUMN autoembed.requests.tokens IS 'as the server counted; estimated where it does not say';
COMMENT ON COLUMN autoembed.requests.cost IS 'US dollars, by the model''s price when it was sent';
COMMENT ON COLUMN autoembed.requests.ms IS 'milliseconds from sending the request to its answer';
COMMENT ON COLUMN autoembed.requests.waited_ms IS 'milliseconds from the queueing of the oldest of its rows to the writing of their vectors; NULL: none was written';
COMMENT ON COLUMN autoembed.requests.pending IS 'jobs of its vectorizer that waited when it was written down, and rows that a backfill had still to walk; counted once a second at most, NULL: not for this one';
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

CREATE VIEW autoembed.progress WITH (security_barrier) AS
SELECT u.source, u.embedding, u.kind,
       pg_catalog.concat('[', pg_catalog.rpad(pg_catalog.repeat('#', (24::pg_catalog.float8 OPERATOR(pg_catalog.*) u.part)::int), 24, '.'), ']') AS bar,
       (pg_catalog.floor(1000::pg_catalog.float8 OPERATOR(pg_catalog.*) u.part) OPERATOR(pg_catalog./) 10::pg_catalog.float8)::numeric AS percent,
       u.rows_done, u.rows_total,
       pg_catalog.round(p.rows_per_second::pg_catalog.float8::numeric, 1) AS rows_per_second,
       CASE WHEN p.rows_per_second OPERATOR(pg_catalog.>) 0::real
            THEN pg_catalog.make_interval(secs => pg_catalog.ceil((u.rows_total OPERATOR(pg_catalog.-) u.rows_done)::pg_catalog.float8
                 OPERATOR(pg_catalog./) p.rows_per_second::pg_catalog.float8)) END AS eta,
       u.state
FROM (
    SELECT v.id, v.source, COALESCE(o.embedding, v.embedding) AS embedding, 'backfill' AS pace,
           CASE WHEN v.replaces IS NULL THEN 'backfill' ELSE 'model change' END AS kind,
           -- The number of rows is an estimate until the walk has come to its end.
           CASE WHEN n.total OPERATOR(pg_catalog.>) 0::bigint
                THEN LEAST(n.done::pg_catalog.float8 OPERATOR(pg_catalog./) n.total::pg_catalog.float8, 0.999::pg_catalog.float8)
                WHEN b.vectorizer_id IS NULL THEN 0.999::pg_catalog.float8 ELSE 0::pg_catalog.float8 END AS part,
           n.done AS rows_done, n.total AS rows_total,
           CASE WHEN v.paused OR o.paused THEN 'paused'
                WHEN l.misfit IS NOT NULL OR s.is_block OR m.state OPERATOR(pg_catalog.=) 'blocked' OR v.held_up_by OPERATOR(pg_catalog.~~) 'blocked%' THEN 'blocked: see autoembed.status'
                WHEN NOT w.is_there AND NOT pg_catalog.pg_is_in_recovery() THEN 'waits for a worker'
                WHEN m.state OPERATOR(pg_catalog.=) 'waiting' THEN 'waits for the API'
                WHEN m.state OPERATOR(pg_catalog.=) 'paced' THEN 'waits for the minute''s next requests'
                WHEN b.walked_at IS NULL AND b.vectorizer_id IS NOT NULL OR j.jobs OPERATOR(pg_catalog.>) 0::bigint THEN 'running'
                WHEN v.index_wanted THEN 'waits for its index'
                ELSE 'waits for the swap' END AS state
    FROM autoembed.vectorizer v
    CROSS JOIN (SELECT autoembed.misfit() AS misfit) l
    CROSS JOIN (SELECT EXISTS (SELECT FROM autoembed.worker_activity() a WHERE a.kind OPERATOR(pg_catalog.=) 'worker') AS is_there) w
    LEFT JOIN autoembed.vectorizer o ON o.id OPERATOR(pg_catalog.=) v.replaces
    LEFT JOIN autoembed.backfill b ON b.vectorizer_id OPERATOR(pg_catalog.=) v.id
    LEFT JOIN autoembed.model_state m ON m.model OPERATOR(pg_catalog.=) v.model
    LEFT JOIN (SELECT t.vectorizer_id, t.code OPERATOR(pg_catalog.<>) ALL (ARRAY['index', 'locked']) AS is_block
               FROM autoembed.vectorizer_state t) s ON s.vectorizer_id OPERATOR(pg_catalog.=) v.id
    -- Rows that the walk has queued and that are not done; it keeps no more than some thousands of them in the queue.
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS jobs
        FROM (SELECT FROM autoembed.job q
              WHERE q.vectorizer_id OPERATOR(pg_catalog.=) v.id AND q.lane OPERATOR(pg_catalog.=) 1::smallint
                AND (q.if_missing OR q.is_forced OR b.rereads) AND (b.walked_at IS NULL OR q.queued_at OPERATOR(pg_catalog.<=) b.walked_at)
              LIMIT 20000) x) j
    CROSS JOIN LATERAL (
        SELECT CASE WHEN b.vectorizer_id IS NOT NULL THEN GREATEST(b.walked OPERATOR(pg_catalog.-) j.jobs, 0::bigint) END AS done,
               CASE WHEN b.walked_at IS NULL THEN GREATEST(b.total, b.walked) ELSE b.walked END AS total) n
    WHERE (b.walked_at IS NULL AND b.vectorizer_id IS NOT NULL OR b.walked_at IS NOT NULL AND j.jobs OPERATOR(pg_catalog.>) 0::bigint
           OR v.replaces IS NOT NULL)
      AND autoembed.sees_all_rows(v.source)
    UNION ALL
    SELECT v.id, v.source, COALESCE(o.embedding, v.embedding), w.kind, w.kind,
           CASE WHEN i.vectorizer IS NULL OR i.phase OPERATOR(pg_catalog.=) ANY (ARRAY['initializing', 'waiting for writers before build']) THEN 0::pg_catalog.float8
                WHEN NOT pg_catalog.starts_with(i.phase, 'building index') THEN 0.999::pg_catalog.float8
                WHEN i.blocks_total OPERATOR(pg_catalog.>) 0::bigint
                THEN LEAST(i.blocks_done::pg_catalog.float8 OPERATOR(pg_catalog./) i.blocks_total::pg_catalog.float8, 0.999::pg_catalog.float8)
                ELSE 0::pg_catalog.float8 END,
           i.rows_done, i.rows_total,
           CASE WHEN i.phase OPERATOR(pg_catalog.=) 'initializing' OR pg_catalog.starts_with(i.phase, 'building index') THEN 'running'
                WHEN i.phase OPERATOR(pg_catalog.=) ANY (ARRAY['waiting for writers before build', 'waiting for writers before validation', 'waiting for old snapshots'])
                THEN pg_catalog.concat('waits for other transactions', CASE WHEN i.waits_for OPERATOR(pg_catalog.>) 0
                     THEN pg_catalog.concat(', now of process ', i.waits_for) END)
                WHEN i.vectorizer IS NOT NULL THEN 'is checked'
                WHEN v.paused OR o.paused THEN 'paused'
                WHEN EXISTS (SELECT FROM autoembed.backfill b WHERE b.vectorizer_id OPERATOR(pg_catalog.=) v.id AND b.walked_at IS NULL)
                  OR EXISTS (SELECT FROM autoembed.job q LEFT JOIN autoembed.backfill b ON b.vectorizer_id OPERATOR(pg_catalog.=) q.vectorizer_id
                             WHERE q.vectorizer_id OPERATOR(pg_catalog.=) v.id AND q.lane OPERATOR(pg_catalog.=) 1::smallint
                               AND (q.if_missing OR q.is_forced OR b.rereads) AND (b.walked_at IS NULL OR q.queued_at OPERATOR(pg_catalog.<=) b.walked_at))
                THEN 'waits for the backfill'
                WHEN v.build_after OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
                THEN pg_catalog.concat('gave way to a session that wanted the table; again after ', pg_catalog.to_char(v.build_after, 'HH24:MI:SS'))
                ELSE 'waits for a process' END
    FROM autoembed.vectorizer v
    LEFT JOIN autoembed.vectorizer o ON o.id OPERATOR(pg_catalog.=) v.replaces
    CROSS JOIN LATERAL (VALUES ('index', v.index_wanted), ('text index', v.text_index_wanted)) w (kind, is_wanted)
    LEFT JOIN autoembed.index_builds() i ON i.vectorizer OPERATOR(pg_catalog.=) v.id AND i.kind OPERATOR(pg_catalog.=) w.kind
    WHERE (w.is_wanted OR i.vectorizer IS NOT NULL) AND autoembed.sees_all_rows(v.source)) u
LEFT JOIN autoembed.pace p ON p.vectorizer_id OPERATOR(pg_catalog.=) u.id AND p.kind OPERATOR(pg_catalog.=) u.pace
      AND p.at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '10 s'::interval);
COMMENT ON VIEW autoembed.progress IS 'Backfills, builds of indexes and changes of models that are under way, for tables all of whose rows the reader may read; made for \watch 1';
COMMENT ON COLUMN autoembed.progress.embedding IS 'the target column';
COMMENT ON COLUMN autoembed.progress.kind IS 'backfill, index, text index, or model change';
COMMENT ON COLUMN autoembed.progress.percent IS 'of a backfill: rows that the worker has gone through; of an index: the part of the table that was read for it';
COMMENT ON COLUMN autoembed.progress.rows_done IS 'rows that have their vector, or need none; for an index, rows that are in it';
COMMENT ON COLUMN autoembed.progress.rows_total IS 'rows in all, by the planner''s estimate';
COMMENT ON COLUMN autoembed.progress.rows_per_second IS 'over the last minute, as the worker measures it; NULL: not known yet';
COMMENT ON COLUMN autoembed.progress.eta IS 'time to the end, at that rate';
COMMENT ON COLUMN autoembed.progress.state IS 'running, or what it waits for';

CREATE FUNCTION autoembed.stats(since interval DEFAULT '1 day', OUT source regclass, OUT embedding name, OUT model text, OUT rows bigint,
    OUT requests bigint, OUT inputs bigint, OUT tokens bigint, OUT cost numeric, OUT errors bigint, OUT error_rate numeric,
    OUT p50_ms numeric, OUT p95_ms numeric, OUT p99_ms numeric, OUT cache_hits bigint)
RETURNS SETOF record LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.source, g.embedding, g.model, g.rows, g.requests, g.inputs, g.tokens, g.cost, g.errors,
           pg_catalog.round(g.errors::numeric OPERATOR(pg_catalog./) NULLIF(g.requests, 0::bigint)::numeric, 4),
           pg_catalog.round(g.ms[1]::numeric, 1), pg_catalog.round(g.ms[2]::numeric, 1), pg_catalog.round(g.ms[3]::numeric, 1), g.cache_hits
    FROM (SELECT r.source, r.embedding, r.model,
                 pg_catalog.sum(r.rows)::bigint AS rows,
                 pg_catalog.count(*) FILTER (WHERE r.inputs OPERATOR(pg_catalog.>) 0) AS requests,
                 pg_catalog.sum(r.inputs)::bigint AS inputs,
                 pg_catalog.sum(r.tokens)::bigint AS tokens,
                 pg_catalog.round(pg_catalog.sum(r.cost)::numeric, 6) AS cost,
                 pg_catalog.count(r.error_code) AS errors,
                 pg_catalog.percentile_cont(ARRAY[0.5, 0.95, 0.99]::pg_catalog.float8[]) WITHIN GROUP (ORDER BY r.ms::pg_catalog.float8)
                     FILTER (WHERE r.inputs OPERATOR(pg_catalog.>) 0 AND r.error_code IS NULL) AS ms,
                 pg_catalog.sum(r.cached)::bigint AS cache_hits
          FROM autoembed.requests r
          WHERE r.at OPERATOR(pg_catalog.>) (pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) since)
          GROUP BY r.source, r.embedding, r.model) g
    ORDER BY g.source, g.embedding, g.model
$$;
COMMENT ON FUNCTION autoembed.stats(interval) IS
    'What embedding has done and cost for each table and model in the time given, as far back as autoembed.request_retention reaches: rows, requests, tokens, US dollars, errors (error_rate: of the requests), milliseconds of requests that were answered, texts that were not sent because their vector was remembered.';

CREATE FUNCTION autoembed.report(since interval DEFAULT '1 day')
RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB'
AS 'MODULE_PATHNAME', 'report_wrapper';
COMMENT ON FUNCTION autoembed.report(interval) IS
    'A page of HTML that needs nothing else: throughput, latencies, errors, backlog and cost over the time given, and how things are now; what the views show the caller. As psql -Atc "SELECT autoembed.report()" > report.html.';

GRANT SELECT ON autoembed.status, autoembed.progress, autoembed.failed_jobs, autoembed.workers, autoembed.requests TO PUBLIC;
