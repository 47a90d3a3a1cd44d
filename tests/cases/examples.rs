//! The worked examples, run as a new user runs them: psql, one file, a database of its own. What they print is checked where a number
//! or an answer is promised.

use autoembed_tests::site::PATIENCE;
use autoembed_tests::{Cluster, Db};

/// Runs examples/`name`.sql in a fresh database; gives what it printed, without alignment, and a session in the database.
fn play(name: &str, text: &str) -> (String, Db, Cluster) {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run(&format!("CREATE DATABASE {name}"));
    let file = cluster.socket_dir().join(format!("{name}.sql"));
    std::fs::write(&file, text).unwrap();
    let mut psql = cluster.tool("psql");
    psql.args(["-X", "-q", "-A", "-t", "-d", name, "-f"]).arg(&file);
    let output = psql.output().unwrap();
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{printed}");
    assert!(output.status.success(), "{said}\n{printed}\n{}", cluster.log_tail(20));
    assert!(!said.contains("WARNING") && !said.contains("ERROR"), "{said}");
    let db = cluster.client(name);
    (printed.into_owned(), db, cluster)
}

/// Asserts that these lines were printed one after the other.
fn printed(all: &str, lines: &[&str]) {
    let found = all.lines().collect::<Vec<_>>();
    assert!(found.windows(lines.len()).any(|window| window == lines), "not printed: {lines:#?}\n{all}");
}

/// What stands between `first`, which is a line, and the next `\echo`ed or otherwise fixed line `last`.
fn between<'a>(all: &'a str, first: &str, last: &str) -> Vec<&'a str> {
    let lines = all.lines().skip_while(|line| *line != first).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| *line != last).collect();
    assert!(!lines.is_empty(), "nothing between {first:?} and {last:?}: {all}");
    lines
}

#[test]
fn a_chat_history() {
    let (all, mut db, _cluster) = play("chat", include_str!("../../examples/chat.sql"));
    // Saved while the API was down, embedded later, but for a text without words.
    printed(&all, &["messages|12|0|active: waiting for the API"]);
    printed(&all, &["messages|0|1|11|active", "unknown_words|the built-in model knows no word of the text"]);
    // Four versions of a streamed text, one request for it.
    printed(&all, &["waiting|t", "t", "12"]);
    assert_eq!(db.text("SELECT autoembed.wait('messages')"), "t");
    assert_eq!(db.int("SELECT sum(rows) FROM autoembed.requests"), 12);
    assert_eq!(db.int("SELECT count(embedding) FROM messages"), 12);
    // Searches.
    let of_one = between(
        &all,
        "In one conversation: filter has columns of the table as its keys",
        "In all of her conversations",
    );
    assert!(of_one.len() == 2 && of_one.iter().any(|line| line.contains("forty euros")), "{of_one:?}");
    let of_all = between(&all, "In all of her conversations", "Only what the assistant has said");
    assert!(
        of_all[0].starts_with("A trip to the sea|") && of_all.iter().any(|line| line.contains("train")),
        "{of_all:?}"
    );
    printed(
        &all,
        &[
            "By what is in a jsonb column: rows that contain it",
            "Changing the element takes a technician less than an hour, but the part may have to be ordered.",
        ],
    );
    let by_words = between(
        &all,
        "By words and by meaning together (hybrid) in one conversation: the number counts, which has no meaning to the model",
        "The same in all of her conversations, with their titles. WITH ORDINALITY keeps the order in a join",
    );
    assert!(by_words.len() == 1 && by_words[0].contains("forty euros"), "{by_words:?}");
    printed(
        &all,
        &[
            "The same in all of her conversations, with their titles. WITH ORDINALITY keeps the order in a join",
            "A trip to the sea|The train takes four hours, and children travel for free.",
            "More like this message, without the message itself",
        ],
    );
    let by_row = between(
        &all,
        "More like this message, without the message itself",
        "By time: what is not \"equal to\" is plain SQL. Name the model that the column is filled with",
    );
    assert!(by_row.len() == 1 && by_row[0].starts_with("The train takes four hours"), "{by_row:?}");
    let by_time = between(
        &all,
        "By time: what is not \"equal to\" is plain SQL. Name the model that the column is filled with",
        "By role and time and words: k => NULL gives all rows in their order, and the rest is plain SQL again",
    );
    printed(
        &all,
        &[
            "By role and time and words: k => NULL gives all rows in their order, and the rest is plain SQL again",
            "We want to spend a week at the coast in June, with two children.",
            "The same oven, asked for as ben: his own message, and nothing of hers",
        ],
    );
    assert!(by_time.len() == 2 && by_time.iter().all(|line| line.starts_with("2026-04-10|")), "{by_time:?}");
    let of_ben = between(&all, "The same oven, asked for as ben: his own message, and nothing of hers", "Context");
    assert_eq!(of_ben.len(), 2, "ben has two messages, and sees no others: {of_ben:?}");
    assert!(of_ben[0].contains("chicken"), "{of_ben:?}");
    let context = between(&all, "Context", "Statistics of a conversation");
    assert!((4..=6).contains(&context.len()) && context.is_sorted(), "{context:?}");
    assert!(context.iter().any(|line| line.contains("heating element")), "{context:?}");
    // 5 messages, 4 embedded, none waits, one failed; tokens as counted by hand; no message was embedded before its delay was over.
    let tokens = db.int("SELECT sum(ceil(length(content) / 4.0)) FROM messages WHERE conversation_id = 'a0000000-0000-4000-8000-000000000002'");
    let told = between(&all, "Statistics of a conversation", "")[0];
    let seconds = told.strip_prefix(&format!("5|4|0|1|{tokens}|")).unwrap_or_else(|| panic!("{told}"));
    assert!((1.0..600.0).contains(&seconds.parse::<f64>().unwrap()), "{told}");
    let timed = "SELECT count(*) FROM messages WHERE embedded_at > saved_at";
    assert_eq!(db.int(timed), 12, "of the streamed message the time of its last piece counts");
    assert!(db.yes("SELECT notifies FROM autoembed.vectorizer"));
}

#[test]
fn a_game_library() {
    let (all, mut db, cluster) = play("games", include_str!("../../examples/games.sql"));
    for line in
        ["games|0|0|10|active", "achievements|0|0|4|active", "collections|0|0|2|active", "preferences|0|0|2|active"]
    {
        printed(&all, &[line]);
    }
    printed(&all, &["Mara|2|0.4|t", "Jon|1|0.25|t", "Kim|||f"]);
    let mut farms: Vec<&str> = between(&all, "For Mara: the other farms", "For Jon: the other race")
        .into_iter()
        .filter_map(|line| line.split('|').next())
        .collect();
    farms.sort_unstable();
    assert_eq!(farms, ["Barnyard Manager", "Orchard Days"]);
    assert!(
        between(&all, "For Jon: the other race", "For Mara, at least nearly the same: nothing")[0]
            .starts_with("Dust Rally|")
    );
    printed(
        &all,
        &["For Mara, at least nearly the same: nothing", "For Kim, of whom nothing is known: nothing", "2|0.4"],
    );
    // Kim gets nothing, and the next thing printed is Jon's taste of two games.
    printed(&all, &["For Kim, of whom nothing is known: nothing", "2|0.4", "For Jon, now"]);
    assert!(between(&all, "For Jon, now", "Tile Garden")[0].starts_with("Iron Orbit|"));
    let text = between(&all, "The text with the new genre", "The text with the new name of a genre").join("\n");
    assert!(text.contains("puzzle, strategy"), "{text}");
    let text = between(&all, "The text with the new name of a genre", "Games like one of them").join("\n");
    assert!(text.contains("brain teaser, strategy"), "{text}");
    printed(&all, &["Games like one of them", "Hollow Ward", "The same in plain SQL", "Hollow Ward"]);
    is_mean(&mut db, 2);
    // Mara's taste followed the new vector of a game of hers.
    assert_eq!(db.int("SELECT count(*) FROM preferences WHERE taste IS NOT NULL AND sample_size > 0"), 2);
    // And it follows whatever becomes of games and of who owns them.
    db.run("UPDATE owned SET hours = hours * 20, game_id = 9 WHERE player_id = 2; INSERT INTO owned VALUES (3, 2, 0), (3, 3, 7), (3, 6, 1)");
    is_mean(&mut db, 3);
    db.run("UPDATE owned SET player_id = 2 WHERE player_id = 3 AND game_id = 6; DELETE FROM games WHERE id = 9; UPDATE games SET description = 'Cows.' WHERE id = 3");
    assert_eq!(db.text("SELECT autoembed.wait('games')"), "t");
    is_mean(&mut db, 3);
    db.run("DELETE FROM owned WHERE player_id = 2");
    is_mean(&mut db, 2);
    assert_eq!(
        db.text(
            "SELECT sample_size || ' ' || confidence || ' ' || (taste IS NULL) FROM preferences WHERE player_id = 2"
        ),
        "0 0 true"
    );
    at_the_same_moment(&mut db, &cluster);
}

/// A taste is what it says, the weighted mean, to the last digit that a sum of floats keeps.
fn is_mean(db: &mut Db, players: i64) {
    let wrong = db.text(
        "SELECT count(*) FILTER (WHERE p.sample_size = m.size AND p.taste <-> m.mean < 1e-5 AND abs(p.confidence - m.size / (m.size + 3.0)) < 1e-6) || ' of ' || count(*)
         FROM preferences p JOIN (
           SELECT player_id, max(size) AS size, array_agg(x ORDER BY n)::vector AS mean FROM (
             SELECT o.player_id, e.n, count(*) AS size, sum(e.x * (1 + ln(1 + o.hours))) / sum(1 + ln(1 + o.hours)) AS x
             FROM owned o JOIN games g ON g.id = o.game_id, unnest(g.embedding::real[]) WITH ORDINALITY AS e (x, n) GROUP BY 1, 2) c GROUP BY 1) m USING (player_id)
         WHERE p.sample_size > 0",
    );
    assert_eq!(wrong, format!("{players} of {players}"));
}

/// What two sessions and the worker do at once is in the tastes, and nobody fails for another.
fn at_the_same_moment(db: &mut Db, cluster: &Cluster) {
    db.run("INSERT INTO players VALUES (4, 'Lia')");
    for (first, second, players) in [
        ("INSERT INTO owned VALUES (1, 2, 10)", "INSERT INTO owned VALUES (1, 3, 10)", 2),
        ("INSERT INTO owned VALUES (4, 2, 10)", "INSERT INTO owned VALUES (4, 1, 10)", 3),
        (
            "UPDATE games SET embedding = (SELECT embedding FROM games WHERE id = 7) WHERE id = 5",
            "INSERT INTO owned VALUES (1, 5, 9)",
            3,
        ),
        (
            "INSERT INTO owned VALUES (1, 6, 9)",
            "UPDATE games SET embedding = (SELECT embedding FROM games WHERE id = 8) WHERE id = 6",
            3,
        ),
        ("INSERT INTO owned VALUES (2, 1, 5), (1, 4, 5)", "INSERT INTO owned VALUES (1, 7, 5), (2, 7, 1)", 4),
        (
            "UPDATE owned SET player_id = 4 WHERE player_id = 1 AND game_id = 4",
            "UPDATE owned SET player_id = 1, game_id = 8 WHERE player_id = 4 AND game_id = 2",
            4,
        ),
    ] {
        let (mut one, mut other) = (cluster.client("games"), cluster.client("games"));
        let pid = other.int("SELECT pg_backend_pid()");
        one.run(&format!("BEGIN; {first}"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| other.run(second));
            db.until(&format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}"), "Lock", PATIENCE);
            one.run("COMMIT");
            waiting.join().unwrap();
        });
        println!("{first} | {second}");
        is_mean(db, players);
    }
    // The worker has a game in hand whose owner a user holds, who then wants that game.
    let mut user = cluster.client("games");
    user.run("BEGIN; INSERT INTO owned VALUES (2, 10, 3)");
    db.run("UPDATE games SET description = 'Grow flowers.' WHERE id = 1");
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autoembed worker' AND wait_event_type = 'Lock'";
    db.until(waits, "1", PATIENCE);
    user.run("UPDATE games SET description = 'Grow bushes.' WHERE id = 1; COMMIT");
    assert_eq!(db.text("SELECT autoembed.wait('games')"), "t");
    assert_eq!(db.int("SELECT count(*) FROM autoembed.failed_jobs"), 0);
    is_mean(db, 4);
    db.run("DELETE FROM players WHERE id = 1");
    is_mean(db, 3);
    assert!(!cluster.log().contains("deadlock detected"), "{}", cluster.log_tail(20));
}

#[test]
fn a_support_desk() {
    let (all, mut db, _cluster) = play("support", include_str!("../../examples/support.sql"));
    printed(&all, &["What a model with a price would cost, and the built-in one", "12000|t|t", "12000|0.000000"]);
    printed(&all, &["backfill|12000", "index|", "text index|"]);
    printed(&all, &["backfill|paused", "index|paused", "text index|paused"]);
    printed(&all, &["tickets_embedding_idx|t", "tickets_embedding_text_idx|t"]);
    // One of them twice, where it was embedded before it was edited.
    assert!(
        ["tickets|0|0|12001|active", "tickets|0|0|12002|active"].iter().any(|line| all.lines().any(|l| l == *line)),
        "{all}"
    );
    let urgent =
        between(&all, "The one that is burning", "How were such things answered before? Different subjects only");
    assert_eq!(urgent[0].split('|').next(), Some(db.text("SELECT id FROM tickets WHERE subject = 'Flood'").as_str()));
    // Parcels that never came, and people who waited in vain.
    let before = between(
        &all,
        "How were such things answered before? Different subjects only",
        "More like ticket 2, without itself",
    );
    let mut subjects: Vec<&str> = before.iter().filter_map(|line| line.split('|').next()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["Parcel", "Pickup"]);
    printed(&all, &["More like ticket 2, without itself", "Damaged", "All about one order"]);
    let of_order = between(&all, "All about one order", "An error code, and no other");
    assert!(of_order.len() == 3 && of_order[0] == "Damaged|t", "{of_order:?}");
    assert!(of_order.iter().all(|line| line.ends_with("|t")), "{of_order:?}");
    printed(&all, &["An error code, and no other", "Warranty|t"]);
    let by_meaning =
        between(&all, "A question that shares no word with its answer is answered as before", "Found by reconcile");
    assert!(by_meaning.iter().all(|subject| ["Parcel", "Pickup"].contains(subject)), "{by_meaning:?}");
    printed(&all, &["Found by reconcile", "2", "t", "2"]);
    printed(&all, &["Before the change: of a table of this size a part is read", "t|0.000000"]);
    // It comes to this line only where no search had fewer rows.
    printed(&all, &["After the change", "later|1|active", "Meanwhile", "Given up"]);
    assert!(all.lines().any(|line| line.starts_with("12003|too_long|")), "{all}");
    printed(&all, &["1", "t", "0|0|0"]);
    printed(&all, &["tickets|builtin|t|0|0.000000", "tickets|later|t|0|0.000000", "true|0|ok"]);
    assert_eq!(db.int("SELECT count(*) FROM tickets WHERE embedding IS NULL"), 0);
    assert_eq!(db.rows("SELECT * FROM autoembed.progress").len(), 0);
}

#[test]
fn an_editor_of_pages() {
    let (all, mut db, _cluster) = play("pages", include_str!("../../examples/pages.sql"));
    let chunks = between(&all, "Chunks of the document", "A block, and where in it");
    let headings: Vec<&str> = chunks.iter().filter_map(|line| line.split('|').nth(3)).collect();
    assert_eq!(headings, ["Rooms", "Permits", "Staff", "Suppliers"]);
    let hit = between(&all, "A block, and where in it", "Pages")[0];
    let supplies = chunks[3].trim_end_matches("Suppliers");
    assert!(hit.starts_with(&format!("3|{supplies}")), "{hit} is not in {supplies}");
    let page = between(&all, "Pages", "The place of it").join("\n");
    assert!(page.starts_with("Opening a shop|2|") && page.contains("health office"), "{page}");
    printed(&all, &["The place of it", "t"]);
    // It is told, between the edit and what is looked at next.
    let edit = between(&all, "One word is edited", "Texts that the edit has cost");
    let told = r#"Asynchronous notification "autoembed" with payload "{"source" : "public.blocks", "embedding" : "embedding", "rows" : 1, "failed" : 0}""#;
    assert_eq!((edit[0], edit.last()), ("waiting", Some(&"embedded")), "{edit:?}");
    assert!(edit.iter().any(|line| line.starts_with(told)), "{edit:?}");
    printed(&all, &["Texts that the edit has cost", "1"]);
    printed(
        &all,
        &[
            "The built-in model knows no word of it",
            "failed|chunk 0 of 1 (bytes 0 to 4): the built-in model knows no word of the text",
            "embedded",
        ],
    );
    printed(&all, &["All is done", "0|0|active"]);
    // What was written later has the higher number. In order of arrival the edit would be the last; how much of the import was
    // still to come when it was done depends on the machine.
    let overtaken = "SELECT count(DISTINCT id) FROM block_chunks WHERE id > 1000 AND xmin::text::bigint > (SELECT max(xmin::text::bigint) FROM block_chunks WHERE id = 2)";
    let overtaken = db.int(overtaken);
    assert!(overtaken > 0, "the edit waited for all of the import");
    printed(&all, &["Before and after the page is indexed again", "0", "2", "t", "1", "Left of the page", "0"]);
    assert_eq!(db.int("SELECT count(DISTINCT id) FROM block_chunks"), 2002);
    assert_eq!(db.int("SELECT autoembed.reconcile('blocks')"), 0);
    // Of a page without blocks, no row is indexed again.
    let again =
        include_str!("../../examples/pages.sql").lines().find(|line| line.contains("autoembed.enqueue('blocks'"));
    assert_eq!(db.int(again.unwrap().trim_end_matches(';')), 0);
}
