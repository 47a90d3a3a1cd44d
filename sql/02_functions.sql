-- Functions give and take the type vector, whose schema is only known here. A type of that name that somebody made beforehand, in a
-- schema that is searched first, would be taken for pgvector's.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid
                   WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
                     AND d.objid OPERATOR(pg_catalog.=) 'vector'::pg_catalog.regtype
                     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                     AND x.extname OPERATOR(pg_catalog.=) 'vector') THEN
        RAISE EXCEPTION 'another type "vector" hides that of pgvector'
            USING ERRCODE = 'duplicate_object', HINT = 'Drop it, after a look at who made it, or name the schema of pgvector: CREATE EXTENSION autoembed SCHEMA ...';
    END IF;
END
$$;

-- Models: only a superuser or the extension's owner, since a URL decides where data and keys go.
CREATE FUNCTION autoembed.create_model(
    name text, provider text, dimensions int, model text DEFAULT NULL, url text DEFAULT NULL,
    api_key_env text DEFAULT NULL, api_key_file text DEFAULT NULL, max_batch_inputs int DEFAULT NULL,
    max_batch_tokens int DEFAULT NULL, max_input_tokens int DEFAULT NULL, requests_per_minute int DEFAULT NULL,
    tokens_per_minute int DEFAULT NULL, daily_token_budget bigint DEFAULT NULL, max_concurrent_requests int DEFAULT NULL,
    timeout interval DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_model_wrapper';
COMMENT ON FUNCTION autoembed.create_model(text, text, int, text, text, text, text, int, int, int, int, int, bigint, int, interval, jsonb) IS
    'Adds a model: how to call it and where its key is. NULL means the provider''s own default. Superuser or the extension''s owner only.';

CREATE FUNCTION autoembed.drop_model(name text)
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_model_wrapper';
COMMENT ON FUNCTION autoembed.drop_model(text) IS 'Removes a model that no vectorizer uses. Superuser or the extension''s owner only.';

CREATE FUNCTION autoembed.test_model(name text, OUT ok boolean, OUT dimensions int, OUT latency_ms real, OUT error text)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'test_model_wrapper';
COMMENT ON FUNCTION autoembed.test_model(text) IS
    'Calls the model once with a short text: whether it answered, the vector''s dimensions, milliseconds, and the error where there was one.';

-- Vectorizers: the caller must own the table.
CREATE FUNCTION autoembed.enable(
    source regclass, input text, model text DEFAULT NULL, embedding name DEFAULT 'embedding', on_change text DEFAULT 'replace',
    delay interval DEFAULT '0', backfill boolean DEFAULT true, index text DEFAULT 'auto', search_function name DEFAULT NULL,
    text_search regconfig DEFAULT NULL, chunk_size int DEFAULT NULL, chunk_overlap int DEFAULT NULL, chunk_table name DEFAULT NULL)
RETURNS int LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enable_wrapper';
COMMENT ON FUNCTION autoembed.enable(regclass, text, text, name, text, interval, boolean, text, name, regconfig, int, int, name) IS
    'Keeps a vector column of the table in step with a column or an SQL expression over the row: makes the column, triggers and search function, and starts the backfill. With chunk_size, long texts go in chunks, each with a vector, into a table beside it. Returns the vectorizer''s id.';

CREATE FUNCTION autoembed.disable(source regclass, embedding name DEFAULT 'embedding', drop_column boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'disable_wrapper';
COMMENT ON FUNCTION autoembed.disable(regclass, name, boolean) IS
    'Ends a vectorizer: removes its triggers, search function and waiting work; the column and its vectors, or the chunk table, stay unless drop_column is true.';

CREATE FUNCTION autoembed.pause(source regclass, embedding name DEFAULT 'embedding')
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION autoembed.pause(regclass, name) IS 'Stops embedding for a vectorizer; changes go on being queued.';

CREATE FUNCTION autoembed.resume(source regclass, embedding name DEFAULT 'embedding')
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION autoembed.resume(regclass, name) IS 'Goes on after pause().';

CREATE FUNCTION autoembed.set_model(source regclass, model text, embedding name DEFAULT 'embedding')
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'set_model_wrapper';
COMMENT ON FUNCTION autoembed.set_model(regclass, text, name) IS
    'Embeds all rows anew by another model, into a column beside the old one, which takes its place when it is full and indexed; searches use the old model until then. With the model that the vectorizer has: ends a change that is under way.';

CREATE FUNCTION autoembed.estimate_cost(source regclass, model text DEFAULT NULL, embedding name DEFAULT 'embedding', input text DEFAULT NULL,
    OUT rows bigint, OUT tokens bigint, OUT price numeric)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'estimate_cost_wrapper';
COMMENT ON FUNCTION autoembed.estimate_cost(regclass, text, name, text) IS
    'What embedding all rows of a table by a model would take: rows with a text, tokens by a cautious estimate, and US dollars (NULL: the price is not known). Makes no request; of a large table a sample is read. model NULL: the vectorizer''s own, or the default; input NULL: the vectorizer''s own.';

-- Work.
CREATE FUNCTION autoembed.embed(input text, model text DEFAULT NULL)
RETURNS vector LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION autoembed.embed(text, text) IS
    'The vector of a search text, now, in this session (model NULL: autoembed.default_model). Can be cancelled; gives up after autoembed.query_timeout; remembered for autoembed.cache_ttl. A model that makes requests works for whoever may read a table that it embeds, and for roles that were granted EXECUTE by name.';

CREATE FUNCTION autoembed.embed_pending(source regclass DEFAULT NULL, max_rows int DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'embed_pending_wrapper';
COMMENT ON FUNCTION autoembed.embed_pending(regclass, int) IS
    'Embeds waiting rows in this session and transaction, without a worker, and returns how many were embedded. source NULL: all tables of the caller.';

CREATE FUNCTION autoembed.backfill(source regclass, embedding name DEFAULT 'embedding', force boolean DEFAULT false)
RETURNS bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_wrapper';
COMMENT ON FUNCTION autoembed.backfill(regclass, name, boolean) IS
    'Starts to embed all rows that have no vector (force: all rows) and returns the estimated number of rows. The worker walks the table in key order and keeps its place.';

CREATE FUNCTION autoembed.enqueue(source regclass, keys text[] DEFAULT NULL, embedding name DEFAULT 'embedding')
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enqueue_wrapper';
COMMENT ON FUNCTION autoembed.enqueue(regclass, text[], name) IS
    'Queues rows by primary key (NULL: all rows, as a backfill) because something that the input expression reads elsewhere changed. They wait in the lane of autoembed.lane. Returns the number queued.';

CREATE FUNCTION autoembed.retry_failed(source regclass DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retry_failed_wrapper';
COMMENT ON FUNCTION autoembed.retry_failed(regclass) IS 'Puts failed jobs back into the queue and returns how many. source NULL: all tables of the caller.';

CREATE FUNCTION autoembed.discard_failed(source regclass DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'discard_failed_wrapper';
COMMENT ON FUNCTION autoembed.discard_failed(regclass) IS 'Forgets failed jobs and returns how many. source NULL: all tables of the caller.';

CREATE FUNCTION autoembed.reconcile(source regclass)
RETURNS bigint LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reconcile_wrapper';
COMMENT ON FUNCTION autoembed.reconcile(regclass) IS
    'Finds rows that changed without the triggers'' knowledge (restored, replicated, triggers disabled), reading the whole table: rows with a text and no vector, and rows whose vector was written for another text. Queues them in the slow lane and returns how many.';

CREATE FUNCTION autoembed.wait(source regclass DEFAULT NULL, timeout interval DEFAULT '1 min')
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'wait_wrapper';
COMMENT ON FUNCTION autoembed.wait(regclass, interval) IS
    'Waits until every job committed before the call is done or failed, and every backfill begun before it has ended; false when the timeout came first.';

-- Called by what enable() makes.
CREATE FUNCTION autoembed.queue_change()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_change_wrapper';
COMMENT ON FUNCTION autoembed.queue_change() IS 'Trigger made by enable(): queues the keys of changed rows.';

CREATE FUNCTION autoembed.clear_vector()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'clear_vector_wrapper';
COMMENT ON FUNCTION autoembed.clear_vector() IS 'Trigger made by enable(on_change => ''clear''): sets the vector NULL when the input changes, or deletes the row''s chunks.';

CREATE FUNCTION autoembed.own_model()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'own_model_wrapper';
COMMENT ON FUNCTION autoembed.own_model() IS
    'Trigger of the table models: a row that somebody changes or adds is not well known, so that it is dumped; one that is added takes the place of the well-known one of that name.';
REVOKE ALL ON FUNCTION autoembed.own_model() FROM PUBLIC;
CREATE TRIGGER own_model BEFORE INSERT OR UPDATE ON autoembed.models FOR EACH ROW EXECUTE FUNCTION autoembed.own_model();
-- Whatever a restore sets session_replication_role to.
ALTER TABLE autoembed.models ENABLE ALWAYS TRIGGER own_model;

CREATE FUNCTION autoembed.query_vector(vectorizer int, query text)
RETURNS vector LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'query_vector_wrapper';
COMMENT ON FUNCTION autoembed.query_vector(int, text) IS 'Used by the search functions: the vector of a search text by the vectorizer''s model. The model stays the column''s own until the transaction ends.';

CREATE FUNCTION autoembed.search_rows(vectorizer int, query text, k int, min_similarity real, filter jsonb, mode text, made bigint = NULL)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'search_rows_wrapper';
COMMENT ON FUNCTION autoembed.search_rows(int, text, int, real, jsonb, text, bigint) IS
    'Used by the search functions: the rows nearest to a text, with the reader''s rights. The model stays the column''s own until the transaction ends. made: when the vectorizer was, which no other of that number has.';

CREATE FUNCTION autoembed.search_statement(vectorizer int, k int, filter jsonb, mode text, made bigint = NULL)
RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'search_statement_wrapper';
COMMENT ON FUNCTION autoembed.search_statement(int, int, jsonb, text, bigint) IS
    'Used by the search functions: the statement of a search. Names of columns in the filter are checked and quoted; its values are read from a parameter. made: when the vectorizer was, which no other of that number has.';

CREATE FUNCTION autoembed.row_search_statement(vectorizer int, k int, filter jsonb, made bigint = NULL)
RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'row_search_statement_wrapper';
COMMENT ON FUNCTION autoembed.row_search_statement(int, int, jsonb, bigint) IS
    'Used by the search functions: the statement of a search for rows like a given one, as search_statement.';

CREATE FUNCTION autoembed.word_information(word text, rows float8, found bigint, looked_at float8)
RETURNS float8 LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'word_information_wrapper';
COMMENT ON FUNCTION autoembed.word_information(text, float8, bigint, float8) IS
    'Used by hybrid searches: how much a word of the query says, by how many rows have it.';

CREATE FUNCTION autoembed.words_matched(information float8[], ranks real[], length float8, usual_length float8)
RETURNS float8 LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'words_matched_wrapper';
COMMENT ON FUNCTION autoembed.words_matched(float8[], real[], float8, float8) IS
    'Used by hybrid searches: how much the words of the query say that a row has.';

CREATE FUNCTION autoembed.fused(similarity float8, usual float8, best float8, information float8[], ranks real[], matched float8,
    best_matched float8, rows float8)
RETURNS float8 LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fused_wrapper';
COMMENT ON FUNCTION autoembed.fused(float8, float8, float8, float8[], real[], float8, float8, float8) IS
    'Used by hybrid searches: the place of a row in the order, by its similarity and by the words of the query that it has.';

CREATE FUNCTION autoembed.sees_all_rows(source regclass)
RETURNS boolean LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT')
       AND (NOT pg_catalog.row_security_active(c.oid) OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
    FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) source
$$;
COMMENT ON FUNCTION autoembed.sees_all_rows(regclass) IS
    'Used by the views: whether the caller may read the table and no policy hides rows of it from him. Whoever it is false for is shown nothing of single rows.';

CREATE FUNCTION autoembed.misfit()
RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'misfit_wrapper';
COMMENT ON FUNCTION autoembed.misfit() IS
    'Used by the views: why the library that the server has loaded cannot work with this version of the extension, and what to do; NULL: it can.';

CREATE FUNCTION autoembed.worker_activity(OUT pid int, OUT database name, OUT kind text, OUT state text, OUT started_at timestamptz)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.pid, a.datname, pg_catalog.split_part(a.backend_type, ' ', 2),
           CASE WHEN a.wait_event_type OPERATOR(pg_catalog.=) 'Extension' OR a.wait_event_type OPERATOR(pg_catalog.=) 'Activity' THEN 'waiting' ELSE 'working' END,
           a.backend_start
    FROM pg_catalog.pg_stat_activity a
    WHERE a.backend_type OPERATOR(pg_catalog.=) ANY (ARRAY['autoembed worker', 'autoembed launcher', 'autoembed indexer'])
      AND (a.datname IS NULL OR a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
$$;
COMMENT ON FUNCTION autoembed.worker_activity() IS 'The extension''s background workers for this database; read it through the view workers.';

CREATE FUNCTION autoembed.session_usage(OUT model text, OUT day date, OUT requests bigint, OUT inputs bigint, OUT tokens bigint,
    OUT cost float8, OUT errors bigint, OUT cache_hits bigint)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'session_usage_wrapper';
COMMENT ON FUNCTION autoembed.session_usage() IS 'What embed() and searches have used and the worker has not added up yet; read it through the view usage.';
REVOKE ALL ON FUNCTION autoembed.session_usage() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION autoembed.session_usage() TO pg_monitor;

-- Looking.
CREATE FUNCTION autoembed.health()
RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'health_wrapper';
COMMENT ON FUNCTION autoembed.health() IS
    'Whether all works, and how much waits, for monitors and load balancers; never raises an error, and takes no longer for a long queue. Numbers are of tables all of whose rows the caller may read, or of all for members of pg_monitor.';

CREATE FUNCTION autoembed.job_status(source regclass, key text, embedding name DEFAULT 'embedding', OUT state text, OUT attempts int,
    OUT queued_at timestamptz, OUT not_before timestamptz, OUT failed_at timestamptz, OUT code text, OUT message text, OUT hint text)
RETURNS SETOF record LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 1 COST 1000 AS 'MODULE_PATHNAME', 'job_status_wrapper';
COMMENT ON FUNCTION autoembed.job_status(regclass, text, name) IS
    'How far one row is, by its primary key as text: embedded, waiting, in_flight, failed (with the reason), no_text, not_queued, or missing, which is also said of a row that the caller may not see.';

CREATE FUNCTION autoembed.notify(source regclass, enabled boolean DEFAULT true, embedding name DEFAULT 'embedding')
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'notify_wrapper';
COMMENT ON FUNCTION autoembed.notify(regclass, boolean, name) IS
    'Has a notification sent on channel autoembed with each batch of vectors that is written, with table, column and numbers of rows; every role may LISTEN to it.';

CREATE FUNCTION autoembed.index_builds(OUT vectorizer int, OUT kind text, OUT phase text, OUT waits_for int, OUT blocks_done bigint, OUT blocks_total bigint,
    OUT rows_done bigint, OUT rows_total bigint)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'index_builds_wrapper';
COMMENT ON FUNCTION autoembed.index_builds() IS
    'Used by the view progress: indexes on vectors and on words that are being built, on tables all of whose rows the caller may read.';

CREATE FUNCTION autoembed.queue_counts(OUT vectorizer int, OUT waiting bigint, OUT in_flight bigint, OUT oldest timestamptz)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 10000 AS 'MODULE_PATHNAME', 'queue_counts_wrapper';
COMMENT ON FUNCTION autoembed.queue_counts() IS
    'Used by the view status: the jobs of each vectorizer, counted exactly, of tables all of whose rows the caller may read.';

REVOKE ALL ON FUNCTION autoembed.create_model(text, text, int, text, text, text, text, int, int, int, int, int, bigint, int, interval, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION autoembed.drop_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION autoembed.test_model(text) FROM PUBLIC;
