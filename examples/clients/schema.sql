-- What all the clients here use; run once by the role that is to own the table:  psql -f schema.sql
-- An application's role needs GRANT SELECT, INSERT ON messages, and nothing of autoembed.
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    content text NOT NULL
);
SELECT autoembed.enable('messages', 'content');
SELECT autoembed.notify('messages');    -- for those who LISTEN
