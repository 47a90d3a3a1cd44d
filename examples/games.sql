-- A game library: what is embedded comes from several columns and from another table, and what a player likes is a vector of its own.
--
--     createdb games
--     psql -d games -f examples/games.sql
--
-- It needs a server with autoembed and pgvector installed, and a role that may create extensions (a superuser). It uses the built-in
-- model: no key, and nothing leaves the machine. Run it once, in a database of its own.

\set ON_ERROR_STOP on
\pset pager off

CREATE EXTENSION autoembed CASCADE;    -- CASCADE brings pgvector

-- 1. The tables: games have genres in a table of their own.
CREATE TABLE genres (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE games (id int PRIMARY KEY, title text NOT NULL, description text NOT NULL);
CREATE TABLE game_genres (game_id int REFERENCES games ON DELETE CASCADE, genre_id int REFERENCES genres, PRIMARY KEY (game_id, genre_id));
CREATE TABLE achievements (id int PRIMARY KEY, game_id int REFERENCES games ON DELETE CASCADE, name text NOT NULL, description text NOT NULL);
CREATE TABLE players (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE collections (id int PRIMARY KEY, player_id int REFERENCES players ON DELETE CASCADE, name text NOT NULL, note text);
CREATE TABLE owned (player_id int REFERENCES players ON DELETE CASCADE, game_id int REFERENCES games ON DELETE CASCADE,
                    hours real NOT NULL DEFAULT 0, PRIMARY KEY (player_id, game_id));

-- What a player says that he likes, which is a text like any other; and his taste, which is made from the games that he owns (step 4).
CREATE TABLE preferences (
    player_id   int PRIMARY KEY REFERENCES players ON DELETE CASCADE,
    likes       text,
    taste       vector(256),                        -- as many components as the model's vectors have
    sample_size int NOT NULL DEFAULT 0,             -- games that it is made from
    confidence  real NOT NULL DEFAULT 0             -- from 0 (nothing is known) towards 1
);

-- 2. Four embedded tables. The input is any SQL expression over the row: several columns, and a subquery that gathers the genres. Where an
--    input is no single column, the search function calls the text "input". Tables are empty here, so that their indexes are built at once.
SELECT autoembed.enable('games', $$
    title || E'\n' || description || coalesce(E'\n' || (SELECT string_agg(g.name, ', ' ORDER BY g.name)
                                                       FROM game_genres j JOIN genres g ON g.id = j.genre_id
                                                       WHERE j.game_id = games.id), '')$$);
SELECT autoembed.enable('achievements', $$name || ': ' || description$$);
SELECT autoembed.enable('collections', $$name || coalesce(E'\n' || note, '')$$);
SELECT autoembed.enable('preferences', 'likes');

-- 3. A change in another table is not seen by the triggers of "games". So the other tables say which games are to be embedded again, once for
--    each statement, by their keys as text. (No keys at all, NULL, would mean all rows: hence the coalesce.) enqueue() is for the table's
--    owner; where others may change genres, make such a function SECURITY DEFINER, with a search_path of its own.
CREATE FUNCTION genres_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM autoembed.enqueue('games', coalesce((SELECT array_agg(DISTINCT c.game_id::text) FROM changed c), '{}'));
    RETURN NULL;
END $$;
CREATE TRIGGER genres_added AFTER INSERT ON game_genres REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION genres_changed();
CREATE TRIGGER genres_removed AFTER DELETE ON game_genres REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION genres_changed();

-- A genre may get another name, too: all of its games have another text then.
CREATE FUNCTION genre_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM autoembed.enqueue('games', coalesce((SELECT array_agg(DISTINCT j.game_id::text)
        FROM changed c JOIN before b USING (id) JOIN game_genres j ON j.genre_id = c.id WHERE c.name <> b.name), '{}'));
    RETURN NULL;
END $$;
CREATE TRIGGER genre_renamed AFTER UPDATE ON genres REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION genre_renamed();

-- 4. A player's taste: the mean of the vectors of his games, each with the weight of the time that he has played it (the logarithm, so
--    that a thousand hours of one game do not outweigh everything). pgvector multiplies vectors component by component, so the weight is made a
--    vector, too. Confidence grows with the number of games: 1 game 0.25, 3 games 0.5, 9 games 0.75.
--    Two purchases of one player may be made at once, and neither sees the other before it is committed; nor a vector that is written at that
--    moment. So the games that are bought are locked first, as their UPDATE does it below, then the players, each in the order of their keys, so
--    that nobody waits in a circle; and the mean is made in the next statement, which (READ COMMITTED, the default) sees what the locks have
--    waited for. A function that does so must be VOLATILE. It needs the rights of the tables' owner: see step 3.
CREATE FUNCTION refresh_taste(who int[], bought int[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM games g WHERE g.id = ANY (bought) ORDER BY g.id FOR SHARE;
    INSERT INTO preferences (player_id) SELECT n.id FROM players n WHERE n.id = ANY (who) ORDER BY n.id ON CONFLICT DO NOTHING;
    PERFORM FROM preferences p WHERE p.player_id = ANY (who) ORDER BY p.player_id FOR NO KEY UPDATE;
    -- Who owns no game that has a vector has no taste: the sum of no rows is NULL.
    UPDATE preferences p SET (taste, sample_size, confidence) = (
        SELECT sum(w.embedding * array_fill((w.weight / w.total)::real, ARRAY[256])::vector), count(*), count(*) / (count(*) + 3.0)
        FROM (SELECT g.embedding, 1 + ln(1 + o.hours) AS weight, sum(1 + ln(1 + o.hours)) OVER () AS total
              FROM owned o JOIN games g ON g.id = o.game_id
              WHERE o.player_id = p.player_id AND g.embedding IS NOT NULL) w)
    WHERE p.player_id = ANY (who);
END $$;

-- Kept fresh: when games are bought, played or given back ...
CREATE FUNCTION owned_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_taste(ARRAY(SELECT c.player_id FROM changed c), ARRAY(SELECT c.game_id FROM changed c));
    RETURN NULL;
END $$;
CREATE TRIGGER owned_added AFTER INSERT ON owned REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION owned_changed();
CREATE TRIGGER owned_removed AFTER DELETE ON owned REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION owned_changed();
CREATE FUNCTION owned_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_taste(ARRAY(SELECT b.player_id FROM before b UNION SELECT a.player_id FROM after a), ARRAY(SELECT a.game_id FROM after a));
    RETURN NULL;
END $$;
CREATE TRIGGER owned_updated AFTER UPDATE ON owned REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION owned_updated();

-- ... and when a game gets its vector, or another one. The worker's UPDATE fires triggers like anybody's. It passes over games that users
-- hold, gives way where they hold a player that it needs, and comes again a moment later: no purchase fails for it.
CREATE FUNCTION games_embedded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_taste(ARRAY(
        SELECT DISTINCT o.player_id FROM after a JOIN before b USING (id) JOIN owned o ON o.game_id = a.id
        WHERE a.embedding IS DISTINCT FROM b.embedding));
    RETURN NULL;
END $$;
CREATE TRIGGER games_embedded AFTER UPDATE ON games REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION games_embedded();

-- 5. Data. Games and their genres come in one transaction: each game is embedded once, with its genres.
BEGIN;
INSERT INTO genres VALUES (1, 'strategy'), (2, 'farming'), (3, 'racing'), (4, 'horror'), (5, 'puzzle'), (6, 'space');
INSERT INTO games VALUES
    (1, 'Harvest Lane',    'Grow vegetables, raise chickens and cows, and sell what the farm gives at the village market.'),
    (2, 'Orchard Days',    'Plant fruit trees, keep bees and make jam in a quiet valley. Neighbours come by with seeds and stories.'),
    (3, 'Barnyard Manager','Run a farm: buy animals, feed them, milk the cows, and plan the fields for each season.'),
    (4, 'Apex Circuit',    'Drive fast cars on famous race tracks, tune the engine and overtake in the last corner.'),
    (5, 'Dust Rally',      'Race muddy cars through the desert against the clock, with a co-driver who reads the curves.'),
    (6, 'The Cellar',      'Alone in a dark house at night. Something breathes behind the door. Find the key and do not look back.'),
    (7, 'Hollow Ward',     'An abandoned hospital, ghosts in the corridors, and a lamp whose battery is nearly empty.'),
    (8, 'Outer Drift',     'Command a fleet of starships, settle planets and trade between the stars of a distant galaxy.'),
    (9, 'Iron Orbit',      'Build a rocket, reach the orbit and land on the moon. Fuel and mass have to be calculated.'),
    (10, 'Tile Garden',    'Turn and match coloured tiles until the pattern is complete. Two hundred quiet riddles.');
INSERT INTO game_genres VALUES (1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 1), (8, 6), (9, 6), (10, 5);
COMMIT;
INSERT INTO achievements VALUES
    (1, 1, 'Green thumb', 'Harvest one hundred vegetables.'),
    (2, 4, 'Podium', 'Finish a race among the first three.'),
    (3, 7, 'Sleepless', 'Survive the night in the hospital without a lamp.'),
    (4, 9, 'One small step', 'Land on the moon and come back.');
INSERT INTO players VALUES (1, 'Mara'), (2, 'Jon'), (3, 'Kim');
INSERT INTO preferences (player_id, likes) VALUES (1, 'calm games about gardens and animals'), (2, 'fast cars');
INSERT INTO collections VALUES (1, 1, 'For rainy days', 'Slow games with plants and animals, to be played with a cup of tea.'), (2, 2, 'Speed', 'Everything with an engine.');
-- Bought before the games have their vectors: the trigger on "games" makes up for it.
INSERT INTO owned VALUES (1, 1, 120), (1, 10, 3), (2, 4, 60);

SELECT autoembed.wait();    -- all tables of the caller; for scripts, applications need not wait
SELECT source, pending, failed, embedded, state FROM autoembed.status;

\echo What is known of each player: Mara owns two games, Jon one, Kim none
SELECT name, sample_size, confidence, taste IS NOT NULL AS has_taste
FROM players LEFT JOIN preferences ON player_id = players.id ORDER BY players.id;

-- 6. Recommendations: games that the player does not own, nearest to his taste first, and none that are less similar than asked for. The
--    subquery is run once, so that the index on "games" is used however many games there are.
CREATE FUNCTION recommend(player int, k int DEFAULT 5, min_similarity real DEFAULT 0.2)
RETURNS TABLE (game_id int, title text, similarity real) LANGUAGE sql STABLE AS $$
    SELECT r.id, r.title, r.similarity
    FROM (SELECT g.id, g.title, (1 - (g.embedding <=> (SELECT p.taste FROM preferences p WHERE p.player_id = player)))::real AS similarity
          FROM games g
          WHERE NOT EXISTS (SELECT FROM owned o WHERE o.player_id = player AND o.game_id = g.id)
          ORDER BY g.embedding <=> (SELECT p.taste FROM preferences p WHERE p.player_id = player)
          LIMIT k) r
    WHERE r.similarity >= min_similarity
    ORDER BY r.similarity DESC;    -- once more: in a relaxed order, the index gives them nearly so
$$;
-- pgvector's index gives so many candidates at first, and goes on where the condition leaves too few of them.
ALTER FUNCTION recommend SET hnsw.iterative_scan = 'relaxed_order';

\echo For Mara: the other farms
SELECT title, similarity::numeric(3,2) FROM recommend(1, 2);
\echo For Jon: the other race
SELECT title, similarity::numeric(3,2) FROM recommend(2, 1);
\echo For Mara, at least nearly the same: nothing
SELECT title FROM recommend(1, 5, min_similarity => 0.99);
\echo For Kim, of whom nothing is known: nothing
SELECT title FROM recommend(3);

-- 7. Fresh at once: Jon buys a game about space, and his taste moves; he gives his cars back, and it is about space alone.
INSERT INTO owned VALUES (2, 8, 500);
SELECT sample_size, confidence FROM preferences WHERE player_id = 2;
DELETE FROM owned WHERE player_id = 2 AND game_id = 4;
\echo For Jon, now
SELECT title, similarity::numeric(3,2) FROM recommend(2, 1);

-- 8. A genre is added: the game's text has changed, though its row has not. The trigger of step 3 queues it, and whoever owns the game has
--    another taste when it is embedded.
SELECT input FROM similar_games('tiles', 1);
INSERT INTO game_genres VALUES (10, 1);
SELECT autoembed.wait('games');
\echo The text with the new genre
SELECT input FROM similar_games('tiles', 1);
UPDATE genres SET name = 'brain teaser' WHERE id = 5;
SELECT autoembed.wait('games');
\echo The text with the new name of a genre
SELECT input FROM similar_games('tiles', 1);

-- 9. Each of the four can be searched by itself.
SELECT id, similarity::numeric(3,2) FROM similar_achievements('flying to the moon', 1);
SELECT id, similarity::numeric(3,2) FROM similar_collections('cars', 1);
SELECT player_id, similarity::numeric(3,2) FROM similar_preferences('farm animals', 1);

\echo Games like one of them
SELECT g.title FROM similar_games_to((SELECT id FROM games WHERE title = 'The Cellar'), 1) JOIN games g USING (id);
\echo The same in plain SQL
SELECT g.title FROM games g, games t
WHERE t.title = 'The Cellar' AND g.id <> t.id ORDER BY g.embedding <=> t.embedding LIMIT 1;
