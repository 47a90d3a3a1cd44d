-- A support desk that has ten years of tickets: an old, full table gets vectors while people go on working with it, is searched by meaning
-- and by order numbers and error codes, and gets another model later without a gap.
--
--     createdb support
--     psql -d support -f examples/support.sql
--
-- It needs a server with autoembed and pgvector installed, and a role that may create extensions (a superuser). It uses the built-in
-- model: no key, and nothing leaves the machine. Run it once, in a database of its own.

\set ON_ERROR_STOP on
\pset pager off

CREATE EXTENSION autoembed CASCADE;    -- CASCADE brings pgvector

-- 1. The table that has been there for ten years: here 12,000 tickets, made from thirty things that customers write, twenty products and
--    twenty remarks.
CREATE TABLE tickets (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    status     text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    subject    text NOT NULL,
    body       text NOT NULL
);
INSERT INTO tickets (opened_at, status, subject, body)
SELECT '2016-01-01'::timestamptz + (p.n * 600 + r.n * 30 + t.n) * interval '7 hours', 'closed', t.subject,
       format('Order SO-%s, %s. %s %s', 10000 + (p.n - 1) * 20 + r.n, p.name, t.body, r.remark)
FROM unnest(ARRAY['a lamp', 'a pair of shoes', 'a winter jacket', 'blue curtains', 'a phone', 'a coffee machine', 'a bookshelf', 'a toaster', 'a mattress',
                  'a red bicycle', 'garden chairs', 'a tent', 'headphones', 'a guitar', 'a carpet', 'a vacuum cleaner', 'a suitcase', 'a wall clock',
                  'a set of knives', 'a baby stroller']) WITH ORDINALITY AS p (name, n)
CROSS JOIN unnest(ARRAY['It is a present for my mother.', 'My neighbour has the same problem.', 'We leave for our holidays on Friday.', 'I have written three times already.',
                  'The shop in Leeds could not help.', 'I am a customer of many years.', 'Please call me in the evening.', 'My son needs it for school.',
                  'Otherwise I am quite content.', 'I paid by bank transfer.', 'It was on sale in your summer catalogue.', 'Your chat was closed.',
                  'My wife has taken pictures of it.', 'The driver was friendly.', 'It stands in our office.', 'I live on the fourth floor.', 'It is raining here.',
                  'We are moving to Spain.', 'I am a student.', 'The dog is afraid of it.']) WITH ORDINALITY AS r (remark, n)
CROSS JOIN (VALUES
    (1, 'Parcel', 'The parcel was marked as delivered, but it never arrived at my door.'),
    (2, 'Damaged', 'The box was crushed and what was inside is broken.'),
    (3, 'Refund', 'I sent it back three weeks ago. When do I get my money?'),
    (4, 'Invoice', 'Please send me the invoice once more, with the address of my company on it.'),
    (5, 'Password', 'I cannot log in. The link to reset my password does not work.'),
    (6, 'Wrong size', 'It is too small. Can I have it one size larger?'),
    (7, 'Colour', 'It is bright in the picture, and grey in reality.'),
    (8, 'Battery', 'The battery is empty after two hours although it is new.'),
    (9, 'Manual', 'There was no manual with it.'),
    (10, 'Late', 'You promised delivery by Friday, and it is Tuesday now.'),
    (11, 'Cancel', 'Please cancel the order, I bought it twice by mistake.'),
    (12, 'Gift card', 'The code of the gift card is refused at the checkout.'),
    (13, 'Newsletter', 'Stop sending me advertising mails, please.'),
    (14, 'Address', 'We have moved. The next orders should go to the new house.'),
    (15, 'Noise', 'It hums so loudly that we cannot sleep, and shows error E15.'),
    (16, 'Missing part', 'Two screws and the left hinge are missing.'),
    (17, 'Payment', 'My credit card was charged twice for one order.'),
    (18, 'Warranty', 'It stopped after a year with error E18. Is that covered by the warranty?'),
    (19, 'Assembly', 'How do I put it together? The drawing shows another model.'),
    (20, 'Praise', 'Your colleague on the telephone was very kind and helped at once.'),
    (21, 'Stock', 'When will it be available again?'),
    (22, 'Voucher', 'Can I use two vouchers for one order?'),
    (23, 'Smell', 'It smells of chemicals, even after a week at the open window.'),
    (24, 'App', 'The app crashes when I open the shopping basket.'),
    (25, 'Customs', 'The customs office asks for a declaration of value.'),
    (26, 'Language', 'Is there a Spanish version of the instructions?'),
    (27, 'Discount', 'A student discount is mentioned on your page, but I cannot find it.'),
    (28, 'Recall', 'I read that it is recalled because of the risk of fire.'),
    (29, 'Pickup', 'Nobody came to fetch the old one, though we waited all day.'),
    (30, 'Account', 'Delete my account and all data that you have about me.')) AS t (n, subject, body)
ORDER BY p.n, r.n, t.n;
ANALYZE tickets;    -- autovacuum does it by itself; progress shows the planner's estimate of the rows

-- 2. One text of subject and body. Any SQL expression would do for searches by meaning; for searches by words as well (step 7) the text has to be
--    in a column, since an index is made over it. A generated column needs no change in the application. Adding it writes the table anew
--    under a lock, for seconds here; where that takes too long, give just 'body' as the input, or fill a plain column by a trigger and in portions.
ALTER TABLE tickets ADD COLUMN question text GENERATED ALWAYS AS (subject || E'\n' || body) STORED;

-- 3. What would it cost? Nothing is sent: rows, tokens by a cautious estimate, and US dollars, where the price is known.
\echo What a model with a price would cost, and the built-in one
SELECT rows, tokens BETWEEN 300000 AND 900000 AS has_tokens, price > 0 AS has_price
FROM autoembed.estimate_cost('tickets', 'text-embedding-3-small', input => 'question');
SELECT rows, price FROM autoembed.estimate_cost('tickets', 'builtin', input => 'question');

-- 4. One call. It returns at once: the tickets that are there are embedded in the background, in the order of the primary key, and the indexes
--    are built when they are done. From now on every new or changed ticket is embedded, and goes before the old ones. With "text_search", words
--    are found as well; 'english' is the text search configuration (\dF in psql lists them).
SELECT autoembed.enable('tickets', 'question', text_search => 'english');

-- 5. Watch it. In psql: SELECT * FROM autoembed.progress \watch 1
--    Three lines: the backfill, and the indexes over vectors and words, which wait for it. When there is no line, nothing is under way.
SELECT kind, rows_total FROM autoembed.progress ORDER BY kind;

-- People go on working. What they write is embedded first, however much is still to be done.
INSERT INTO tickets (subject, body) VALUES ('Flood', 'The dishwasher has flooded our kitchen, there is water everywhere!');
UPDATE tickets SET status = 'open', body = body || E'\nNow the new one is broken, too.' WHERE id = 2;

-- One may stop it over the day, and let it go on at night; it keeps its place, through restarts as well.
SELECT autoembed.pause('tickets');
SELECT kind, state FROM autoembed.progress ORDER BY kind;
SELECT autoembed.resume('tickets');

-- For scripts: wait until the backfill is over. (Applications need not wait: rows without a vector are not found yet, that is all.)
SELECT autoembed.wait('tickets', '10 min');

-- The indexes are built without blocking writers, by a process of its own; searches work meanwhile, and read the whole table. This
-- waits until progress has no line any more.
CREATE PROCEDURE until_idle() LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM autoembed.progress) LOOP
        PERFORM pg_sleep(0.1);
        COMMIT;
    END LOOP;
END $$;
CALL until_idle();
SELECT source, pending, failed, embedded, state FROM autoembed.status;
SELECT indexrelid::regclass AS index, indisvalid AS is_valid FROM pg_index WHERE indrelid = 'tickets'::regclass AND NOT indisprimary ORDER BY 1::text;

-- 6. Search by meaning: what the customer writes now, among all that was ever answered.
\echo The one that is burning
SELECT id, similarity::numeric(3,2) FROM similar_tickets('water damage in the kitchen', 5, filter => '{"status": "open"}') LIMIT 1;
\echo How were such things answered before? Different subjects only
SELECT subject, max(similarity)::numeric(3,2) AS similarity
FROM similar_tickets('my package did not come', 500) s JOIN tickets USING (id) GROUP BY subject ORDER BY 2 DESC LIMIT 2;
\echo More like ticket 2, without itself
SELECT t.subject FROM similar_tickets_to(2, 1) s JOIN tickets t USING (id);

-- 7. Search by words and by meaning together: a model knows nothing of order numbers and error codes, the index over the words does.
\echo All about one order
SELECT t.subject, t.body LIKE 'Order SO-10217,%' AS is_of_order
FROM similar_tickets('damaged goods in order SO-10217', 3, mode => 'hybrid') s JOIN tickets t USING (id);
\echo An error code, and no other
SELECT DISTINCT t.subject, t.body LIKE '%E18%' AS has_it FROM similar_tickets('what does error E18 mean', 5, mode => 'hybrid') s JOIN tickets t USING (id);
\echo A question that shares no word with its answer is answered as before
SELECT DISTINCT t.subject FROM similar_tickets('my package did not come', 5, mode => 'hybrid') s JOIN tickets t USING (id);

-- 8. Rows that the triggers could not see: an import with triggers switched off. reconcile() compares every text with what its vector was
--    made of, and queues those that differ. Call it after a restore, after such an import, or once a week.
BEGIN;
ALTER TABLE tickets DISABLE TRIGGER USER;
UPDATE tickets SET body = 'Order SO-10001. The parrot was delivered without its cage.' WHERE id = 1;
INSERT INTO tickets (subject, body) VALUES ('Parrot', 'It does not speak, though you promised.');
ALTER TABLE tickets ENABLE TRIGGER USER;
COMMIT;
\echo Found by reconcile
SELECT autoembed.reconcile('tickets');
SELECT autoembed.wait('tickets');
SELECT count(*) FROM similar_tickets('parrot', 2, mode => 'hybrid') s JOIN tickets t USING (id) WHERE t.question ILIKE '%parrot%';

-- 9. Another model, later. An application would take one of its provider's; this is the built-in one under another name, with a limit, so that
--    something goes wrong: texts of more than 200 tokens are refused ("too_long": "fail") instead of cut.
INSERT INTO tickets (subject, body) VALUES ('Log', repeat('The dishwasher wrote this line into its log. ', 100));
SELECT autoembed.wait('tickets');
SELECT autoembed.create_model('later', provider => 'local', dimensions => 256, model => 'builtin', max_input_tokens => 200, options => '{"too_long": "fail"}');
\echo Before the change: of a table of this size a part is read
SELECT rows BETWEEN 11000 AND 13000 AS has_rows, price FROM autoembed.estimate_cost('tickets', 'later');
SELECT autoembed.set_model('tickets', 'later');

-- All rows are embedded anew beside the old vectors. Until they are, and indexed, searches are answered from the old ones, and what is written
-- gets both. This searches all the time that it takes, and writes; every search has its five rows.
CREATE PROCEDURE search_until_changed() LANGUAGE plpgsql AS $$
DECLARE
    searches int := 0;
BEGIN
    WHILE (SELECT model FROM autoembed.status WHERE source = 'tickets'::regclass) <> 'later' LOOP
        IF (SELECT count(*) FROM similar_tickets('my package did not come', 5)) <> 5 THEN
            RAISE 'a search came back with fewer rows';
        END IF;
        searches := searches + 1;
        IF searches = 3 THEN
            INSERT INTO tickets (subject, body) VALUES ('Meanwhile', 'The umbrella was delivered with a hole in it.');
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
    RAISE NOTICE '% searches, none of them with fewer rows', searches;
END $$;
CALL search_until_changed();
SELECT autoembed.wait('tickets');
\echo After the change
SELECT model, failed, state FROM autoembed.status;
-- (An index over vectors may miss a row that is unlike all others: docs/guide.md, "Indexes". One that has the word is found by it.)
SELECT subject FROM similar_tickets('an umbrella', 1, mode => 'hybrid') s JOIN tickets USING (id);

-- 10. One row has failed: it is kept, with the reason and what to do, and has no vector by the new model.
\echo Given up
SELECT key, code, message FROM autoembed.failed_jobs;
-- A superuser mends the model (its row is a setting like any other), and the row is tried again.
UPDATE autoembed.models SET options = '{"too_long": "truncate"}' WHERE name = 'later';
SELECT autoembed.retry_failed('tickets');
SELECT autoembed.wait('tickets');
SELECT pending, failed, (SELECT count(*) FROM tickets WHERE embedding IS NULL) AS without_vector FROM autoembed.status;

-- 11. What it has done and cost. The built-in model costs nothing; with another one, tokens and US dollars are here.
SELECT source, model, rows >= 12000 AS has_rows, errors, cost FROM autoembed.stats('1 hour') ORDER BY model;

-- 12. For a monitor: one call that never fails and is quick however long the queue is.
SELECT h -> 'healthy' AS healthy, h -> 'waiting' AS waiting, h -> 'models' -> 'later' ->> 'state' AS model FROM autoembed.health() h;
