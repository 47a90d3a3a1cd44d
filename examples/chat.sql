-- Chat history: conversations that are searched by meaning, each user in his own.
--
--     createdb chat
--     psql -d chat -f examples/chat.sql
--
-- It needs a server with autoembed and pgvector installed, and a superuser for the extension, the model and the roles; the rest is
-- done as the roles that an application would have. It uses the built-in model: no key, and nothing leaves the machine.
-- Run it once, in a database of its own. To begin again: dropdb chat, and DROP ROLE chat_app, chat_owner.

\set ON_ERROR_STOP on
\pset pager off

-- 1. The extension, and two roles. One owns the tables, and the worker acts as that role when it reads texts and writes vectors; the other
--    is the application's, and sees what the policies below let it see.
CREATE EXTENSION autoembed CASCADE;    -- CASCADE brings pgvector
CREATE ROLE chat_owner;
CREATE ROLE chat_app;
GRANT CREATE, USAGE ON SCHEMA public TO chat_owner;
GRANT USAGE ON SCHEMA public TO chat_app;

-- 2. The model. An application would name one of its provider's here, such as 'text-embedding-3-small', which is there already and
--    wants nothing but a key (docs/operations.md, "Keys"). This one is a server that is not there: nobody listens on port 9. Step 6 tells why.
SELECT autoembed.create_model('chat', provider => 'openai', dimensions => 256, url => 'http://localhost:9/v1');

-- 3. The tables of a chat application. Nothing in them is there for the embeddings but "saved_at" and "embedded_at", which are of use for
--    statistics: a trigger notes when the text was written last, and when its vector was.
SET ROLE chat_owner;

CREATE TABLE conversations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    text NOT NULL,
    title      text NOT NULL
);
CREATE TABLE messages (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         text NOT NULL,
    role            text NOT NULL CHECK (role IN ('user', 'assistant')),
    content         text NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    saved_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    embedded_at     timestamptz
);
CREATE INDEX ON messages (conversation_id, created_at);
CREATE INDEX ON messages (user_id);    -- for the policy below: of a user with up to 10,000 messages a search reads all, and those of nobody else

-- 4. Row-level security: the application says whose session it is by a setting (SET app.user_id = ...), and sees the rows of that user
--    alone. It holds in searches, too: they run with the rights of whoever searches. (Behind a pooler in transaction mode each transaction
--    says it anew: BEGIN; SET LOCAL app.user_id = '...'; ...; COMMIT. Searches need nothing else of a session.)
ALTER TABLE conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON conversations USING (user_id = current_setting('app.user_id', true));
CREATE POLICY own ON messages USING (user_id = current_setting('app.user_id', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON conversations, messages TO chat_app;

-- 5. The one call. "delay": assistants' messages are streamed, so their text grows by many UPDATEs; a row is embedded when it has been
--    left alone for a second, and not once for each piece. "text_search": searches can also go by words, which are those of English here.
--    The vector column "embedding", the triggers, the indexes and the search functions similar_messages() and similar_messages_to() are
--    made by this call.
SELECT autoembed.enable('messages', 'content', model => 'chat', delay => '1 s', text_search => 'english');

CREATE FUNCTION note_times() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.content <> OLD.content THEN
        NEW.saved_at := clock_timestamp();
    END IF;
    IF NEW.embedding IS DISTINCT FROM OLD.embedding THEN
        NEW.embedded_at := CASE WHEN NEW.embedding IS NOT NULL THEN clock_timestamp() END;
    END IF;
    RETURN NEW;
END $$;
-- The worker's UPDATE, which writes the vector, fires it as well.
CREATE TRIGGER note_times BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note_times();

-- 6. Users write, and the API is down. Nobody notices: a message is saved like any other row, and waits for its vector.
RESET ROLE;
SET ROLE chat_app;
SET app.user_id = 'ann';
INSERT INTO conversations (id, user_id, title) VALUES
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'The oven'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'A trip to the sea');
INSERT INTO messages (conversation_id, user_id, role, content, created_at) VALUES
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'user', 'My oven does not get hot any more. What can I do?', '2026-03-01 10:00+00'),
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'assistant', 'Please check the fuse first, then the door: most ovens stay cold when it is not quite closed.', '2026-03-01 10:01+00'),
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'user', 'The fuse is fine, and the door closes.', '2026-03-01 10:05+00'),
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'assistant', 'Then the heating element is probably broken. A new one costs about forty euros, and a technician can replace it.', '2026-03-01 10:06+00'),
    ('a0000000-0000-4000-8000-000000000001', 'ann', 'user', 'How long would such a repair take?', '2026-03-01 10:09+00'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'user', 'We want to spend a week at the coast in June, with two children.', '2026-04-10 18:00+00'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'assistant', 'Look for a village with a flat sandy beach. The water is warm enough for swimming from the middle of June.', '2026-04-10 18:01+00'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'user', 'Is there a train, or do we have to drive?', '2026-04-10 18:04+00'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'assistant', 'The train takes four hours, and children travel for free.', '2026-04-10 18:05+00'),
    ('a0000000-0000-4000-8000-000000000002', 'ann', 'user', '🤷', '2026-04-10 18:07+00');
SET app.user_id = 'ben';
INSERT INTO conversations (id, user_id, title) VALUES ('b0000000-0000-4000-8000-000000000001', 'ben', 'Dinner');
INSERT INTO messages (conversation_id, user_id, role, content, created_at) VALUES
    ('b0000000-0000-4000-8000-000000000001', 'ben', 'user', 'How long does a chicken have to stay in the oven?', '2026-03-02 17:00+00'),
    ('b0000000-0000-4000-8000-000000000001', 'ben', 'assistant', 'Roast it for an hour and a half, until the juice that runs out is clear.', '2026-03-02 17:01+00');

-- What the owner sees meanwhile: twelve rows wait, and why. No row is charged with it, however long it lasts.
RESET ROLE;
SET ROLE chat_owner;
-- (This waits for the first try, which comes when the delay of a second is over.)
DO $$
BEGIN
    FOR tenth IN 1..300 LOOP
        EXIT WHEN (SELECT state FROM autoembed.status) <> 'active';
        PERFORM pg_sleep(0.1);
        COMMIT;
    END LOOP;
END $$;
SELECT source, pending + in_flight AS waiting, failed, split_part(state, ',', 1) AS state FROM autoembed.status;

-- The API is back. (A superuser would mend its url, or its server. Here the model becomes the built-in one.) What waits is tried at once
-- when the model's definition changes, and within a minute when only its server comes back.
RESET ROLE;
UPDATE autoembed.models SET provider = 'local', model = 'builtin', url = NULL WHERE name = 'chat';
SET ROLE chat_owner;
SELECT autoembed.wait('messages', '2 min');    -- for scripts; applications need not wait
SELECT source, pending, failed, embedded, state FROM autoembed.status;

-- One row has failed: the built-in model reads English, and knows no word of a shrug. It is kept, with its reason.
SELECT code, message FROM autoembed.failed_jobs;

-- 7. A streamed answer: saved as it begins, and again with each piece. It is embedded once, when it has settled.
RESET ROLE;
SET ROLE chat_app;
SET app.user_id = 'ann';
INSERT INTO messages (id, conversation_id, user_id, role, content, metadata)
    VALUES ('a0000000-0000-4000-8000-00000000000f', 'a0000000-0000-4000-8000-000000000001', 'ann', 'assistant', 'Changing the element', '{"by": "helper-2"}');
UPDATE messages SET content = content || ' takes a technician' WHERE id = 'a0000000-0000-4000-8000-00000000000f';
UPDATE messages SET content = content || ' less than an hour,' WHERE id = 'a0000000-0000-4000-8000-00000000000f';
UPDATE messages SET content = content || ' but the part may have to be ordered.' WHERE id = 'a0000000-0000-4000-8000-00000000000f';
SELECT state, not_before > now() AS is_left_alone FROM autoembed.job_status('messages', 'a0000000-0000-4000-8000-00000000000f');
RESET ROLE;
SET ROLE chat_owner;
SELECT autoembed.wait('messages');
SELECT rows AS vectors_written FROM autoembed.stats('5 min');    -- eleven of the first twelve, and one for four versions of this text

-- 8. Searching, as the application, for ann. None of these can find a word of ben's.
RESET ROLE;
SET ROLE chat_app;
SET app.user_id = 'ann';

\echo In one conversation: filter has columns of the table as its keys
SELECT content, similarity::numeric(3,2)
FROM similar_messages('what is the price of the spare part', 2,
                      filter => '{"conversation_id": "a0000000-0000-4000-8000-000000000001"}');

\echo In all of her conversations
SELECT c.title, m.content, s.similarity::numeric(3,2)
FROM similar_messages('travel by rail', 2) s
JOIN messages m USING (id) JOIN conversations c ON c.id = m.conversation_id
ORDER BY s.similarity DESC;

\echo Only what the assistant has said
SELECT content, similarity::numeric(3,2) FROM similar_messages('holiday by the sea', 2, filter => '{"role": "assistant"}');

\echo By what is in a jsonb column: rows that contain it
SELECT content FROM similar_messages('how long is a repair', 5, filter => '{"metadata": {"by": "helper-2"}}');

\echo By words and by meaning together (hybrid) in one conversation: the number counts, which has no meaning to the model
SELECT content FROM similar_messages('forty euros', 1, mode => 'hybrid',
                                     filter => '{"conversation_id": "a0000000-0000-4000-8000-000000000001"}');

\echo The same in all of her conversations, with their titles. WITH ORDINALITY keeps the order in a join
SELECT c.title, s.content
FROM similar_messages('four hours', 1, mode => 'hybrid') WITH ORDINALITY AS s (id, content, similarity, place)
JOIN messages m USING (id) JOIN conversations c ON c.id = m.conversation_id
ORDER BY s.place;

\echo More like this message, without the message itself
SELECT content, similarity::numeric(3,2)
FROM similar_messages_to((SELECT id FROM messages WHERE content LIKE 'Is there a train%'), 1);

\echo By time: what is not "equal to" is plain SQL. Name the model that the column is filled with
SELECT created_at::date AS day, content
FROM messages
WHERE created_at >= '2026-04-01' AND created_at < '2026-05-01' AND embedding IS NOT NULL
ORDER BY embedding <=> autoembed.embed('holiday by the sea', 'chat')
LIMIT 2;

\echo By role and time and words: k => NULL gives all rows in their order, and the rest is plain SQL again
SELECT s.content
FROM similar_messages('a week in June', NULL, mode => 'hybrid', filter => '{"role": "user"}') WITH ORDINALITY AS s (id, content, similarity, place)
JOIN messages m USING (id)
WHERE m.created_at >= '2026-04-01' AND m.created_at < '2026-05-01'
ORDER BY s.place LIMIT 1;

\echo The same oven, asked for as ben: his own message, and nothing of hers
SET app.user_id = 'ben';
SELECT content FROM similar_messages('a cold oven', 10);
SET app.user_id = 'ann';

-- 9. The context for an answer: the two messages nearest to the question, each with the message before and the one after it, in the order
--    in which they were said.
\echo Context
WITH numbered AS (
    SELECT id, conversation_id, role, content, created_at,
           row_number() OVER (PARTITION BY conversation_id ORDER BY created_at) AS n
    FROM messages
), hits AS (
    SELECT n.conversation_id, n.n
    FROM similar_messages('replacing a broken heating element', 2, min_similarity => 0.2) s JOIN numbered n USING (id)
)
SELECT DISTINCT n.created_at, n.role, n.content
FROM hits h JOIN numbered n ON n.conversation_id = h.conversation_id AND n.n BETWEEN h.n - 1 AND h.n + 1
ORDER BY n.created_at;

-- 10. Statistics of a conversation over a time: messages, how many are embedded, wait or have failed, tokens (about four characters each),
--     and how long they took from being saved to having their vector, in seconds: the delay, and here the time in which the API was down.
--     job_status() tells of rows that the caller may see, so the application can ask for its user.
\echo Statistics of a conversation
SELECT count(*) AS messages,
       count(*) FILTER (WHERE s.state = 'embedded') AS embedded,
       count(*) FILTER (WHERE s.state IN ('waiting', 'in_flight')) AS waiting,
       count(*) FILTER (WHERE s.state = 'failed') AS failed,
       sum(ceil(length(m.content) / 4.0))::int AS tokens,
       round(extract(epoch FROM avg(m.embedded_at - m.saved_at)), 1) AS seconds
FROM messages m CROSS JOIN LATERAL autoembed.job_status('messages', m.id::text) s
WHERE m.conversation_id = 'a0000000-0000-4000-8000-000000000002'
  AND m.created_at BETWEEN '2026-04-01' AND '2026-05-01';

-- What the whole table has cost and how long requests took is the owner's to see: row security hides it from the application.
RESET ROLE;
SET ROLE chat_owner;
SELECT source, model, rows, requests, errors, p50_ms IS NOT NULL AS has_latency, cost FROM autoembed.stats('1 hour');

-- 11. Instead of asking again and again whether a message is embedded: LISTEN. Off unless asked for; one notification a batch, with numbers only.
SELECT autoembed.notify('messages');
--   LISTEN autoembed;    in the application's session; then, with each batch:
--   Asynchronous notification "autoembed" with payload "{"source" : "public.messages", "embedding" : "embedding", "rows" : 1, "failed" : 0}"
RESET ROLE;
