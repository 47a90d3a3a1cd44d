-- Insert, wait, search. psql; connects by PGHOST, PGUSER, ..., or by a URL as its argument:
--   psql "$DATABASE_URL" -v customer=ann -v query='delivery problems' -f messages.sql
-- :'name' is the variable's value as a literal, whatever is in it.
\set ON_ERROR_STOP on

INSERT INTO messages (customer, content) VALUES
    (:'customer', 'my parcel never arrived'),
    (:'customer', 'please cancel my subscription'),
    ('ben', 'where is my package?');

-- Each statement of psql is a transaction of its own, so the rows are committed by now.
SELECT autoembed.wait('messages', timeout => '30 s');

SELECT id, content, round(similarity::numeric, 2) AS similarity
FROM similar_messages(:'query', k => 2, filter => jsonb_build_object('customer', :'customer'));
