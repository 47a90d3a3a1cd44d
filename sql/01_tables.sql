-- A plain CREATE SCHEMA fails where somebody made the schema beforehand: nothing of theirs can end up inside ours.
CREATE SCHEMA autoembed;
COMMENT ON SCHEMA autoembed IS 'autoembed keeps pgvector columns in step with the text beside them';
GRANT USAGE ON SCHEMA autoembed TO PUBLIC;

-- For the library: which of them can work with this catalogue. An update script makes the view anew with the next number when an older
-- library could do harm to what the script makes; a view, so that every session is told.
CREATE VIEW autoembed.interface AS SELECT 1 AS number;
COMMENT ON VIEW autoembed.interface IS 'What a library must know to work with this version of the extension';

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
COMMENT ON COLUMN autoembed.models.provider IS 'the wire format: openai (and every compatible server), azure, ollama, tei, cohere, voyage, jina, mistral, gemini, or local';
COMMENT ON COLUMN autoembed.models.model IS 'the name sent to the API; NULL: the same as name';
COMMENT ON COLUMN autoembed.models.dimensions IS 'components of each vector';
COMMENT ON COLUMN autoembed.models.url IS 'base of the API, as the provider''s own SDK takes it; NULL: the provider''s public address, which azure and tei have not';
COMMENT ON COLUMN autoembed.models.api_key_env IS 'environment variable of the server process that holds the API key';
COMMENT ON COLUMN autoembed.models.api_key_file IS 'file on the server that holds the API key';
COMMENT ON COLUMN autoembed.models.max_batch_inputs IS 'most texts in one request';
COMMENT ON COLUMN autoembed.models.max_batch_tokens IS 'most tokens in one request, by a cautious estimate';
COMMENT ON COLUMN autoembed.models.max_input_tokens IS 'most tokens of one text; longer texts are cut there, or fail where options say so';
COMMENT ON COLUMN autoembed.models.requests_per_minute IS 'most requests a minute';
COMMENT ON COLUMN autoembed.models.tokens_per_minute IS 'most tokens a minute';
COMMENT ON COLUMN autoembed.models.daily_token_budget IS 'most tokens a day';
COMMENT ON COLUMN autoembed.models.max_concurrent_requests IS 'most requests at once; NULL: autoembed.max_concurrent_requests';
COMMENT ON COLUMN autoembed.models.timeout IS 'longest time for one request';
COMMENT ON COLUMN autoembed.models.options IS 'further options: too_long, price_per_million_tokens, metric, and those of the provider: headers, body, document_prefix, query_prefix, send_dimensions, ...';
COMMENT ON COLUMN autoembed.models.well_known IS 'came with the extension, and nobody has changed it: not in dumps';
GRANT SELECT ON autoembed.models TO PUBLIC;

-- Well-known models: with the limits that differ from their provider's, prices as published (US dollars), and the words that
-- models without a field for them want before a text. Ollama's have no limits here: it cuts texts at the context it gave the model.
INSERT INTO autoembed.models (name, provider, model, dimensions, max_batch_tokens, max_input_tokens, options, well_known) VALUES
    ('builtin',                        'local',   'builtin',                        256,  NULL,    NULL,  '{}', true),
    ('text-embedding-3-small',         'openai',  'text-embedding-3-small',         1536, NULL,    NULL,  '{"price_per_million_tokens": 0.02}', true),
    ('text-embedding-3-large',         'openai',  'text-embedding-3-large',         3072, NULL,    NULL,  '{"price_per_million_tokens": 0.13}', true),
    ('text-embedding-ada-002',         'openai',  'text-embedding-ada-002',         1536, NULL,    NULL,  '{"price_per_million_tokens": 0.10}', true),
    ('embed-v4.0',                     'cohere',  'embed-v4.0',                     1536, NULL,    NULL,  '{"price_per_million_tokens": 0.12}', true),
    ('embed-english-v3.0',             'cohere',  'embed-english-v3.0',             1024, NULL,    512,   '{}', true),
    ('embed-english-light-v3.0',       'cohere',  'embed-english-light-v3.0',       384,  NULL,    512,   '{}', true),
    ('embed-multilingual-v3.0',        'cohere',  'embed-multilingual-v3.0',        1024, NULL,    512,   '{}', true),
    ('embed-multilingual-light-v3.0',  'cohere',  'embed-multilingual-light-v3.0',  384,  NULL,    512,   '{}', true),
    ('voyage-4-large',                 'voyage',  'voyage-4-large',                 1024, NULL,    NULL,  '{"price_per_million_tokens": 0.12}', true),
    ('voyage-4',                       'voyage',  'voyage-4',                       1024, 320000,  NULL,  '{"price_per_million_tokens": 0.06}', true),
    ('voyage-4-lite',                  'voyage',  'voyage-4-lite',                  1024, 1000000, NULL,  '{"price_per_million_tokens": 0.02}', true),
    ('voyage-3-large',                 'voyage',  'voyage-3-large',                 1024, NULL,    NULL,  '{"price_per_million_tokens": 0.18}', true),
    ('voyage-3.5',                     'voyage',  'voyage-3.5',                     1024, 320000,  NULL,  '{"price_per_million_tokens": 0.06}', true),
    ('voyage-3.5-lite',                'voyage',  'voyage-3.5-lite',                1024, 1000000, NULL,  '{"price_per_million_tokens": 0.02}', true),
    ('voyage-code-3',                  'voyage',  'voyage-code-3',                  1024, NULL,    NULL,  '{"price_per_million_tokens": 0.18}', true),
    ('voyage-finance-2',               'voyage',  'voyage-finance-2',               1024, NULL,    NULL,  '{"price_per_million_tokens": 0.12}', true),
    ('voyage-law-2',                   'voyage',  'voyage-law-2',                   1024, NULL,    16000, '{"price_per_million_tokens": 0.12}', true),
    ('jina-embeddings-v5-text-small',  'jina',    'jina-embeddings-v5-text-small',  1024, NULL,    32768, '{}', true),
    ('jina-embeddings-v5-text-nano',   'jina',    'jina-embeddings-v5-text-nano',   768,  NULL,    NULL,  '{}', true),
    ('jina-embeddings-v4',             'jina',    'jina-embeddings-v4',             2048, NULL,    32768, '{}', true),
    ('jina-embeddings-v3',             'jina',    'jina-embeddings-v3',             1024, NULL,    NULL,  '{}', true),
    ('mistral-embed',                  'mistral', 'mistral-embed',                  1024, NULL,    NULL,  '{"price_per_million_tokens": 0.10}', true),
    ('codestral-embed',                'mistral', 'codestral-embed',                1536, NULL,    NULL,  '{"price_per_million_tokens": 0.15}', true),
    ('gemini-embedding-001',           'gemini',  'gemini-embedding-001',           3072, NULL,    NULL,  '{"price_per_million_tokens": 0.15}', true),
    ('gemini-embedding-2',             'gemini',  'gemini-embedding-2',             3072, NULL,    8192,  '{"price_per_million_tokens": 0.20, "document_prefix": "title: none | text: ", "query_prefix": "task: search result | query: "}', true),
    ('nomic-embed-text',               'ollama',  'nomic-embed-text',               768,  NULL,    NULL,  '{"document_prefix": "search_document: ", "query_prefix": "search_query: "}', true),
    ('mxbai-embed-large',              'ollama',  'mxbai-embed-large',              1024, NULL,    NULL,  '{"query_prefix": "Represent this sentence for searching relevant passages: "}', true),
    ('all-minilm',                     'ollama',  'all-minilm',                     384,  NULL,    NULL,  '{}', true),
    ('bge-m3',                         'ollama',  'bge-m3',                         1024, NULL,    NULL,  '{}', true),
    ('snowflake-arctic-embed2',        'ollama',  'snowflake-arctic-embed2',        1024, NULL,    NULL,  '{"query_prefix": "query: "}', true),
    ('embeddinggemma',                 'ollama',  'embeddinggemma',                 768,  NULL,    NULL,  '{"document_prefix": "title: none | text: ", "query_prefix": "task: search result | query: "}', true),
    ('qwen3-embedding:0.6b',           'ollama',  'qwen3-embedding:0.6b',           1024, NULL,    NULL,  '{"query_prefix": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"}', true),
    ('qwen3-embedding:4b',             'ollama',  'qwen3-embedding:4b',             2560, NULL,    NULL,  '{"query_prefix": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"}', true),
    ('qwen3-embedding:8b',             'ollama',  'qwen3-embedding:8b',             4096, NULL,    NULL,  '{"query_prefix": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"}', true);

CREATE TABLE autoembed.vectorizer (
    id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source           regclass NOT NULL,
    embedding        name NOT NULL,
    embedding_attnum smallint NOT NULL,
    input            text NOT NULL,
    input_attnum     smallint,
    input_path       text NOT NULL,
    model            text NOT NULL,
    on_change        text NOT NULL,
    delay            interval NOT NULL,
    index_method     text NOT NULL,
    index_wanted     boolean NOT NULL DEFAULT false,
    build_after      timestamptz,
    builds_ended     int NOT NULL DEFAULT 0,
    search_schema    name,
    search_function  name,
    row_search       name,
    text_search      text,
    text_index_wanted boolean NOT NULL DEFAULT false,
    text_index_trouble text,
    chunk_size       int,
    chunk_overlap    int,
    chunk_table      regclass,
    replaces         int,
    held_up_by       text,
    notifies         boolean NOT NULL DEFAULT false,
    paused           boolean NOT NULL DEFAULT false,
    embedded         bigint NOT NULL DEFAULT 0,
    truncated        bigint NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    UNIQUE (source, embedding)
);
COMMENT ON TABLE autoembed.vectorizer IS 'One row a vectorizer: (table, input, target column, model)';
COMMENT ON COLUMN autoembed.vectorizer.input IS 'a column, or an SQL expression over the row, evaluated as the table''s owner';
COMMENT ON COLUMN autoembed.vectorizer.input_attnum IS 'the column, where the input is one: a rename of it is followed';
COMMENT ON COLUMN autoembed.vectorizer.input_path IS 'schemas in which names in the input expression are looked up; temporary objects come last';
COMMENT ON COLUMN autoembed.vectorizer.model IS 'a name in models. Not a foreign key: a restore by several processes may fill this table first';
COMMENT ON COLUMN autoembed.vectorizer.index_wanted IS 'the HNSW index is to be built when the backfill is done';
COMMENT ON COLUMN autoembed.vectorizer.build_after IS 'when its indexes may be built again: a build has given way to a session that wanted the table';
COMMENT ON COLUMN autoembed.vectorizer.builds_ended IS 'how often one has, since the last that came to its end';
COMMENT ON COLUMN autoembed.vectorizer.search_function IS 'in search_schema: searches by a text';
COMMENT ON COLUMN autoembed.vectorizer.row_search IS 'in search_schema: searches by a row';
COMMENT ON COLUMN autoembed.vectorizer.text_search IS 'qualified name of the text search configuration of hybrid searches. Not a regconfig, which pg_upgrade refuses in tables';
COMMENT ON COLUMN autoembed.vectorizer.text_index_wanted IS 'the text index of hybrid searches is to be built when the backfill is done';
COMMENT ON COLUMN autoembed.vectorizer.text_index_trouble IS 'why there is no text index though there should be, as the view status shows it';
COMMENT ON COLUMN autoembed.vectorizer.chunk_size IS 'most tokens of a piece, where long texts are cut into pieces';
COMMENT ON COLUMN autoembed.vectorizer.chunk_overlap IS 'tokens that a piece repeats of the one before it';
COMMENT ON COLUMN autoembed.vectorizer.chunk_table IS 'where the pieces and their vectors are';
COMMENT ON COLUMN autoembed.vectorizer.replaces IS 'the vectorizer whose column this one fills anew with another model''s vectors';
COMMENT ON COLUMN autoembed.vectorizer.held_up_by IS 'what keeps it from taking the place of the one that it replaces, as the view status shows it';
COMMENT ON COLUMN autoembed.vectorizer.notifies IS 'a notification on channel autoembed for each batch that is written';
COMMENT ON COLUMN autoembed.vectorizer.embedded IS 'rows embedded, as far as older entries of the request log were added up';
COMMENT ON COLUMN autoembed.vectorizer.truncated IS 'rows among them whose text was cut to what the model takes';
COMMENT ON COLUMN autoembed.vectorizer.created_at IS 'never changed: its search functions have it, so that those of another database are known';

-- Not in dumps: a restored table may have the oid that it had, and other column numbers.
CREATE TABLE autoembed.numbered (
    vectorizer_id int PRIMARY KEY REFERENCES autoembed.vectorizer ON DELETE CASCADE
);
COMMENT ON TABLE autoembed.numbered IS 'Vectorizers whose column numbers are those of this database; of others, which a dump has brought, the names count';

-- Append-only for writers: no unique key over rows, so that two transactions never wait for each other. It carries keys, never text.
CREATE TABLE autoembed.job (
    vectorizer_id int NOT NULL,
    lane          smallint NOT NULL,
    -- Of each number of the sequence a statement that queues many rows uses all that are before the next.
    id            bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY 8),
    key           text NOT NULL,
    if_missing    boolean NOT NULL DEFAULT false,
    attempts      smallint NOT NULL DEFAULT 0,
    queued_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    not_before    timestamptz,
    leased_until  timestamptz,
    lease_token   bigint,
    is_forced     boolean,
    PRIMARY KEY (vectorizer_id, lane, id)
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE autoembed.job IS 'Rows that wait to be embedded; written by triggers in the user''s own transaction';
COMMENT ON COLUMN autoembed.job.lane IS '0: live (a user''s write), 1: backfill';
COMMENT ON COLUMN autoembed.job.key IS 'the row''s primary key as text; a composite key in the form of a row literal';
COMMENT ON COLUMN autoembed.job.if_missing IS 'nothing to do where a vector is there already';
COMMENT ON COLUMN autoembed.job.is_forced IS 'vectors that are there, and those remembered, do not count; triggers leave it NULL';
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
    failed_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    text_mark     bigint,
    is_forced     boolean
);
CREATE INDEX failed_key ON autoembed.failed (vectorizer_id, key);
COMMENT ON TABLE autoembed.failed IS 'Jobs given up, kept until retry_failed() or autoembed.failed_retention';
COMMENT ON COLUMN autoembed.failed.text_mark IS 'fingerprint of the text that was given up: reconcile() queues the row again only when it has another; NULL: the text was not read';
COMMENT ON COLUMN autoembed.failed.is_forced IS 'vectors that were there did not count, and do not yet';

-- One row a batch. The fingerprints are as good as random, so compressing them would be in vain.
CREATE TABLE autoembed.embedded (
    vectorizer_id int NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    marks         bytea NOT NULL,
    PRIMARY KEY (vectorizer_id, id)
);
ALTER TABLE autoembed.embedded ALTER COLUMN marks SET STORAGE EXTERNAL;
COMMENT ON TABLE autoembed.embedded IS 'Which vector was written for which text, for reconcile(): fingerprints of 16 bytes a row';
COMMENT ON COLUMN autoembed.embedded.id IS 'grows with each batch; negative where older batches were brought together';
COMMENT ON COLUMN autoembed.embedded.marks IS 'for each row 8 bytes that stand for its key, 4 for the vector, and 4 for text and vector';

CREATE TABLE autoembed.backfill (
    vectorizer_id int PRIMARY KEY,
    last_key      text,
    end_key       text,
    force         boolean NOT NULL DEFAULT false,
    total         bigint NOT NULL,
    walked        bigint NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    walked_at     timestamptz,
    rereads       boolean NOT NULL DEFAULT false,
    again_to      text
);
COMMENT ON TABLE autoembed.backfill IS 'How far each backfill has walked its table in key order; the rows behind last_key are in the queue or done';
COMMENT ON COLUMN autoembed.backfill.end_key IS 'the last key when it began; rows behind it have jobs of their own';
COMMENT ON COLUMN autoembed.backfill.rereads IS 'all texts are read and compared with what is stored; what differs is embedded';
COMMENT ON COLUMN autoembed.backfill.again_to IS 'when the end is reached, it begins anew for rows without a vector, up to this key';
COMMENT ON COLUMN autoembed.backfill.walked_at IS 'when the end of the table was reached';

CREATE TABLE autoembed.request (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    vectorizer_id int,
    model         text NOT NULL,
    inputs        int NOT NULL,
    rows          int NOT NULL,
    cached        int NOT NULL DEFAULT 0,
    truncated     int NOT NULL DEFAULT 0,
    tokens        bigint,
    cost          float8 NOT NULL DEFAULT 0,
    noted         boolean NOT NULL DEFAULT false,
    ms            real NOT NULL,
    waited_ms     real,
    pending       bigint,
    status        int,
    error_code    text
);
CREATE INDEX request_at ON autoembed.request (at);
CREATE INDEX request_model ON autoembed.request (model, at) INCLUDE (tokens, noted);
COMMENT ON TABLE autoembed.request IS 'What each request did; kept for autoembed.request_retention';
COMMENT ON COLUMN autoembed.request.inputs IS 'texts sent; 0: no request was made, the vectors were remembered';
COMMENT ON COLUMN autoembed.request.rows IS 'rows whose vector was written';
COMMENT ON COLUMN autoembed.request.cached IS 'texts that were not sent, because their vector was remembered or just being fetched';
COMMENT ON COLUMN autoembed.request.truncated IS 'rows whose text was cut to what the model takes';
COMMENT ON COLUMN autoembed.request.tokens IS 'as the server counted; estimated where it does not say';
COMMENT ON COLUMN autoembed.request.cost IS 'US dollars, by the model''s price when it was sent';
COMMENT ON COLUMN autoembed.request.waited_ms IS 'milliseconds from the queueing of the oldest of its rows to the writing of their vectors; NULL: none was written';
COMMENT ON COLUMN autoembed.request.pending IS 'jobs of its vectorizer that waited then, and rows that a backfill had still to walk; counted once a second at most, NULL: not for this line';
COMMENT ON COLUMN autoembed.request.noted IS 'sent by a session, which has counted it in a way that a rollback does not undo';

-- Written by the worker alone, so that nobody waits for another's row.
CREATE TABLE autoembed.usage_day (
    model      text NOT NULL,
    day        date NOT NULL,
    requests   bigint NOT NULL DEFAULT 0,
    inputs     bigint NOT NULL DEFAULT 0,
    tokens     bigint NOT NULL DEFAULT 0,
    cost       float8 NOT NULL DEFAULT 0,
    errors     bigint NOT NULL DEFAULT 0,
    cache_hits bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (model, day)
);
COMMENT ON TABLE autoembed.usage_day IS 'What sessions have used, and what the request log does not hold any more; read it through the view usage';

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

-- How fast a backfill or the build of an index gets on, for the view progress. Written by the worker every two seconds while there is any.
CREATE TABLE autoembed.pace (
    vectorizer_id   int NOT NULL,
    kind            text NOT NULL,
    rows_per_second real NOT NULL,
    at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (vectorizer_id, kind)
) WITH (fillfactor = 50);
COMMENT ON TABLE autoembed.pace IS 'How fast backfills and builds of indexes get on, as the worker has measured it lately';
COMMENT ON COLUMN autoembed.pace.kind IS 'backfill, index or text index';
COMMENT ON COLUMN autoembed.pace.at IS 'when it was measured; what is older than some seconds tells of a worker that is no more';

SELECT pg_catalog.pg_extension_config_dump('autoembed.models', 'WHERE NOT well_known');
SELECT pg_catalog.pg_extension_config_dump('autoembed.vectorizer', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.vectorizer_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.job', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.lease_token_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.failed', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.failed_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.embedded', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.embedded_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.backfill', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.request', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.request_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('autoembed.usage_day', '');
