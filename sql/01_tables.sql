-- A plain CREATE SCHEMA fails where somebody made the schema beforehand: nothing of theirs can end up inside ours.
CREATE SCHEMA autoembed;
COMMENT ON SCHEMA autoembed IS 'autoembed keeps pgvector columns in step with the text beside them';
GRANT USAGE ON SCHEMA autoembed TO PUBLIC;

CREATE TABLE autoembed.models (
    name                    text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.<>) ''),
    provider                text NOT NULL,
    model                   text,
    dimensions              int NOT NULL CHECK (dimensions OPERATOR(pg_catalog.>=) 1 AND dimensions OPERATOR(pg_catalog.<=) 16000),
    url                     text,
    api_key_env             text,
    api_key_file            text,
    max_batch_inputs        int CHECK (max_batch_inputs OPERATOR(pg_catalog.>) 0),
    max_batch_tokens        int CHECK (max_batch_tokens OPERATOR(pg_catalog.>) 0),
    max_input_tokens        int CHECK (max_input_tokens OPERATOR(pg_catalog.>) 0),
    requests_per_minute     int CHECK (requests_per_minute OPERATOR(pg_catalog.>) 0),
    tokens_per_minute       int CHECK (tokens_per_minute OPERATOR(pg_catalog.>) 0),
    daily_token_budget      bigint CHECK (daily_token_budget OPERATOR(pg_catalog.>) 0),
    max_concurrent_requests int CHECK (max_concurrent_requests OPERATOR(pg_catalog.>) 0),
    timeout                 interval,
    options                 jsonb NOT NULL DEFAULT '{}',
    well_known              boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE autoembed.models IS 'How to call each embedding model; NULL means the provider''s own default';
COMMENT ON COLUMN autoembed.models.name IS 'the name that enable(), embed() and the setting autoembed.default_model use';
COMMENT ON COLUMN autoembed.models.provider IS 'the wire format: openai (and every compatible server), ollama, or local';
COMMENT ON COLUMN autoembed.models.model IS 'the name sent to the API; NULL: the same as name';
COMMENT ON COLUMN autoembed.models.dimensions IS 'components of each vector';
COMMENT ON COLUMN autoembed.models.url IS 'base of the API, as the provider''s own SDK takes it; NULL: the provider''s public address';
COMMENT ON COLUMN autoembed.models.api_key_env IS 'environment variable of the server process that holds the API key';
COMMENT ON COLUMN autoembed.models.api_key_file IS 'file on the server that holds the API key';
COMMENT ON COLUMN autoembed.models.max_batch_inputs IS 'most texts in one request';
COMMENT ON COLUMN autoembed.models.max_batch_tokens IS 'most tokens in one request, by a cautious estimate';
COMMENT ON COLUMN autoembed.models.max_input_tokens IS 'most tokens of one text; longer texts are cut there';
COMMENT ON COLUMN autoembed.models.requests_per_minute IS 'most requests a minute';
COMMENT ON COLUMN autoembed.models.tokens_per_minute IS 'most tokens a minute';
COMMENT ON COLUMN autoembed.models.daily_token_budget IS 'most tokens a day';
COMMENT ON COLUMN autoembed.models.max_concurrent_requests IS 'most requests at once; NULL: autoembed.max_concurrent_requests';
COMMENT ON COLUMN autoembed.models.timeout IS 'longest time for one request';
COMMENT ON COLUMN autoembed.models.options IS 'the provider''s further options: headers, body, send_dimensions';
COMMENT ON COLUMN autoembed.models.well_known IS 'came with the extension';
GRANT SELECT ON autoembed.models TO PUBLIC;

INSERT INTO autoembed.models (name, provider, model, dimensions, well_known) VALUES
    ('builtin',                'local',  'builtin',                256,  true),
    ('text-embedding-3-small', 'openai', 'text-embedding-3-small', 1536, true),
    ('text-embedding-3-large', 'openai', 'text-embedding-3-large', 3072, true),
    ('text-embedding-ada-002', 'openai', 'text-embedding-ada-002', 1536, true),
    ('nomic-embed-text',       'ollama', 'nomic-embed-text',       768,  true),
    ('mxbai-embed-large',      'ollama', 'mxbai-embed-large',      1024, true),
    ('all-minilm',             'ollama', 'all-minilm',             384,  true),
    ('bge-m3',                 'ollama', 'bge-m3',                 1024, true);

CREATE TABLE autoembed.vectorizer (
    id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source           regclass NOT NULL,
    source_oid       oid NOT NULL,
    embedding        name NOT NULL,
    embedding_attnum smallint NOT NULL,
    input            text NOT NULL,
    input_attnum     smallint,
    input_path       text NOT NULL,
    model            text NOT NULL REFERENCES autoembed.models (name),
    on_change        text NOT NULL,
    delay            interval NOT NULL,
    index_method     text NOT NULL,
    index_wanted     boolean NOT NULL DEFAULT false,
    search_schema    name,
    search_function  name,
    paused           boolean NOT NULL DEFAULT false,
    embedded         bigint NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    UNIQUE (source, embedding)
);
COMMENT ON TABLE autoembed.vectorizer IS 'One row a vectorizer: (table, input, target column, model)';
COMMENT ON COLUMN autoembed.vectorizer.source_oid IS 'differs from source after a dump was restored: column numbers are then found again by name';
COMMENT ON COLUMN autoembed.vectorizer.input IS 'a column, or an SQL expression over the row, evaluated as the table''s owner';
COMMENT ON COLUMN autoembed.vectorizer.input_attnum IS 'the column, where the input is one: a rename of it is followed';
COMMENT ON COLUMN autoembed.vectorizer.input_path IS 'search_path under which the input expression is read';
COMMENT ON COLUMN autoembed.vectorizer.index_wanted IS 'the HNSW index is to be built when the backfill is done';
COMMENT ON COLUMN autoembed.vectorizer.embedded IS 'rows embedded, as far as older entries of the request log were added up';

-- Append-only for writers: no unique key over rows, so that two transactions never wait for each other. It carries keys, never text.
CREATE TABLE autoembed.job (
    vectorizer_id int NOT NULL,
    lane          smallint NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    key           text NOT NULL,
    if_missing    boolean NOT NULL DEFAULT false,
    attempts      smallint NOT NULL DEFAULT 0,
    queued_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    not_before    timestamptz,
    leased_until  timestamptz,
    lease_token   bigint,
    PRIMARY KEY (vectorizer_id, lane, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE autoembed.job IS 'Rows that wait to be embedded; written by triggers in the user''s own transaction';
COMMENT ON COLUMN autoembed.job.lane IS '0: live (a user''s write), 1: backfill';
COMMENT ON COLUMN autoembed.job.key IS 'the row''s primary key as text; a composite key in the form of a row literal';
COMMENT ON COLUMN autoembed.job.if_missing IS 'nothing to do where a vector is there already';
COMMENT ON COLUMN autoembed.job.attempts IS 'counted when claimed, given back where the row was not at fault';
COMMENT ON COLUMN autoembed.job.leased_until IS 'until then the job belongs to the holder of lease_token';
CREATE SEQUENCE autoembed.lease_token_seq;

CREATE TABLE autoembed.failed (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vectorizer_id int NOT NULL,
    key           text NOT NULL,
    attempts      int NOT NULL,
    code          text NOT NULL,
    message       text NOT NULL,
    hint          text NOT NULL,
    failed_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX failed_key ON autoembed.failed (vectorizer_id, key);
COMMENT ON TABLE autoembed.failed IS 'Jobs given up, kept until retry_failed() or autoembed.failed_retention';

CREATE TABLE autoembed.backfill (
    vectorizer_id int PRIMARY KEY,
    last_key      text,
    end_key       text,
    force         boolean NOT NULL DEFAULT false,
    total         bigint NOT NULL,
    walked        bigint NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    walked_at     timestamptz
);
COMMENT ON TABLE autoembed.backfill IS 'How far each backfill has walked its table in key order; the rows behind last_key are in the queue or done';
COMMENT ON COLUMN autoembed.backfill.end_key IS 'the last key when it began; rows behind it have jobs of their own';
COMMENT ON COLUMN autoembed.backfill.walked_at IS 'when the end of the table was reached';

CREATE TABLE autoembed.request (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    vectorizer_id int,
    model         text NOT NULL,
    inputs        int NOT NULL,
    rows          int NOT NULL,
    tokens        bigint,
    ms            real NOT NULL,
    status        int,
    error_code    text
);
CREATE INDEX request_at ON autoembed.request (at);
COMMENT ON TABLE autoembed.request IS 'What each request did; kept for autoembed.request_retention';
COMMENT ON COLUMN autoembed.request.rows IS 'rows whose vector was written';

CREATE TABLE autoembed.model_state (
    model   text PRIMARY KEY,
    state   text NOT NULL,
    code    text NOT NULL,
    message text NOT NULL,
    hint    text NOT NULL,
    since   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE autoembed.model_state IS 'Models that cannot be called at present: blocked (somebody must act) or waiting (it mends itself)';

CREATE TABLE autoembed.vectorizer_state (
    vectorizer_id int PRIMARY KEY,
    code          text NOT NULL,
    message       text NOT NULL,
    hint          text NOT NULL,
    since         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE autoembed.vectorizer_state IS 'Vectorizers whose table cannot be read or written at present, and why';

SELECT pg_catalog.pg_extension_config_dump('autoembed.models', 'WHERE NOT well_known');
SELECT pg_catalog.pg_extension_config_dump('autoembed.vectorizer', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.vectorizer_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.job', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.lease_token_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.failed', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.failed_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.backfill', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.request', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.request_id_seq', '');
