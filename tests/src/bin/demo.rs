//! What autoembed does, in half a minute: a private server, a chat application's messages, searches in plain words.
//!
//! The vectors come over HTTP from an embedding server on loopback that answers with the built-in model, so that the
//! whole path runs: trigger, queue, worker, HTTP, write, search. Nothing is left behind, however the program ends.

#[path = "demo/show.rs"]
mod show;

use autoembed_stub::{Stub, StubConfig, Vectors};
use autoembed_tests::{Cluster, Db, db, find};
use show::Page;
use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long the embedding server takes for each answer, as one across the network would.
const LATENCY: Duration = Duration::from_millis(20);

/// How long any one step may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages that are in the table before autoembed is.
const OLD_CONVERSATIONS: usize = 36;

/// Applications that write at the same time.
const CLIENTS: usize = 4;

/// Searches, each with a piece of the best answer. No query shares a word with its answers.
const SEARCHES: [(&str, &str, &str); 3] = [
    ("flooded basement", "", "cellar was under water"),
    ("beginner exercise", "", "one minute of jogging"),
    ("hacked account", r#", filter => '{"role": "user"}'"#, "my login codes"),
];

const TABLE: &str = "CREATE TABLE messages (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  conversation_id uuid NOT NULL,
  role            text NOT NULL,
  content         text NOT NULL,
  metadata        jsonb NOT NULL DEFAULT '{}',
  created_at      timestamptz NOT NULL DEFAULT now()
);";

/// One conversation: its lines are the user's and the assistant's in turn.
struct Conversation {
    channel: &'static str,
    lines: Vec<String>,
}

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first signal ends the demo in good order, a second one at once.
        let second = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted));
        let first = signal_hook::flag::register(signal, Arc::clone(&interrupted));
        if let Err(e) = second.and(first) {
            eprintln!("demo: no signal handler: {e}");
        }
    }
    match run(&interrupted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            eprintln!("\ndemo: interrupted; everything was stopped and removed");
            ExitCode::from(130)
        }
        Err(e) => {
            eprintln!("\ndemo: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(interrupted: &AtomicBool) -> Result<()> {
    let mut page = Page::new();
    let conversations = conversations()?;
    let (old, new) = conversations.split_at(OLD_CONVERSATIONS.min(conversations.len()));
    let rows = |part: &[Conversation]| part.iter().map(|conversation| conversation.lines.len()).sum::<usize>();

    let stub = Stub::start(StubConfig { vectors: Vectors::Builtin, latency: LATENCY, ..StubConfig::default() })?;
    let cluster = Cluster::builder().preload(true).try_start().map_err(|e| {
        format!("the private server did not start: {e}\nhint: is the extension installed in the server of {}? (make install)", find::pg_config().display())
    })?;
    run_sql(&mut connect(&cluster, "postgres")?, "CREATE DATABASE app")?;
    let mut db = connect(&cluster, "app")?;
    let version = value(&mut db, "SELECT split_part(version(), ' ', 2)")?;
    page.line(&format!(
        "autoembed on a private PostgreSQL {version}, embedding server at {}; both are gone when this ends.",
        stub.url()
    ));

    page.step("Set up: the extension, and a model behind an HTTP API (answers take 20 ms)");
    shown(&page, &mut db, "CREATE EXTENSION autoembed CASCADE;")?;
    shown(
        &page,
        &mut db,
        &format!(
            "SELECT autoembed.create_model('demo', 'openai', dimensions => 256,\n                              url => '{}');",
            stub.url()
        ),
    )?;

    page.step(&format!("A chat application's table, with {} messages already in it", rows(old)));
    shown(&page, &mut db, TABLE)?;
    for conversation in old {
        insert(&mut db, conversation, &mut |_, _| Ok(()))?;
    }

    page.step("One call keeps it embedded from now on, and fills in what was there before");
    let start = Instant::now();
    shown(&page, &mut db, "SELECT autoembed.enable('messages', 'content', model => 'demo');")?;
    watch(&page, &mut db, "backfill", rows(old), start, interrupted, || false)?;
    let backfill = start.elapsed();

    page.step(&format!("{CLIENTS} clients write {} more messages; they know nothing of vectors", rows(new)));
    if let Some(first) = new.first() {
        let line = first.lines.first().map_or("", String::as_str);
        let id = "5b2a3c0e-8f41-4d6b-9a57-1c7f0e2d9b38";
        page.sql(&insert_sql(id, "user", line, first.channel));
    }
    let waits = write_live(&page, &cluster, &mut db, new, rows(&conversations), interrupted)?;

    page.step("Search in plain words; no word of the query is in the answers");
    for (query, more, expected) in SEARCHES {
        search(&page, &mut db, query, more, expected)?;
    }

    page.step("What an operator sees");
    let columns = ["source", "model", "state", "pending", "in_flight", "failed", "embedded"];
    let sql = format!("SELECT {} FROM autoembed.status;", columns.join(", "));
    page.sql(&sql);
    let status = table(&mut db, &sql)?;
    page.table(&columns, &status);

    let total = rows(&conversations);
    let missing = value(&mut db, "SELECT count(*) FROM messages WHERE embedding IS NULL")?;
    if missing != "0" || status.len() != 1 {
        return Err(format!("{missing} of {total} rows have no vector").into());
    }
    page.line("");
    page.line(&format!(
        "{total} rows embedded with {} requests; backfill {:.0} rows/s; commit to vector {} ms median ({} ms of it the API)",
        stub.stats().requests,
        rows(old) as f64 / backfill.as_secs_f64(),
        median(waits).as_millis(),
        LATENCY.as_millis()
    ));
    Ok(())
}

/// The messages of `examples/messages.json`.
fn conversations() -> Result<Vec<Conversation>> {
    let parsed: serde_json::Value = serde_json::from_str(include_str!("../../../examples/messages.json"))?;
    let list = parsed.as_array().ok_or("examples/messages.json is no list")?;
    let channels = ["web", "app", "mail"].into_iter().cycle();
    list.iter()
        .zip(channels)
        .map(|(conversation, channel)| {
            let lines = conversation["lines"].as_array().ok_or("a conversation without lines")?;
            let lines = lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
            Ok(Conversation { channel, lines })
        })
        .collect()
}

/// Writes a conversation, each message its own transaction; `written` is told each row's id once it is committed.
fn insert(db: &mut Db, conversation: &Conversation, written: &mut dyn FnMut(&mut Db, i64) -> Result<()>) -> Result<()> {
    let id = value(db, "SELECT gen_random_uuid()")?;
    for (line, role) in conversation.lines.iter().zip(["user", "assistant"].into_iter().cycle()) {
        let row = value(db, &insert_sql(&id, role, line, conversation.channel))?;
        written(db, row.parse()?)?;
    }
    Ok(())
}

/// The statement of an application that knows nothing of vectors.
fn insert_sql(conversation: &str, role: &str, content: &str, channel: &str) -> String {
    format!(
        "INSERT INTO messages (conversation_id, role, content, metadata)\n\
         VALUES ('{conversation}', '{role}', {}, '{{\"channel\": \"{channel}\"}}')\n\
         RETURNING id;",
        db::literal(content)
    )
}

/// Several clients write at the same time; gives the time from each commit to its vector.
fn write_live(
    page: &Page,
    cluster: &Cluster,
    db: &mut Db,
    conversations: &[Conversation],
    total: usize,
    interrupted: &AtomicBool,
) -> Result<Vec<Duration>> {
    let waits = Mutex::new(Vec::new());
    let next = Mutex::new(conversations.iter());
    let failed = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let done = client(cluster, &next, &waits, interrupted);
                    if done.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    done
                })
            })
            .collect();
        let watched = watch(page, db, "live    ", total, start, interrupted, || failed.load(Ordering::Relaxed));
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        watched
    })?;
    Ok(waits.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One client: takes the next conversation, writes it line by line, and times how soon its rows have their vectors.
fn client(
    cluster: &Cluster,
    next: &Mutex<std::slice::Iter<'_, Conversation>>,
    waits: &Mutex<Vec<Duration>>,
    interrupted: &AtomicBool,
) -> Result<()> {
    let mut db = connect(cluster, "app")?;
    loop {
        let Some(conversation) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else {
            return Ok(());
        };
        insert(&mut db, conversation, &mut |db, id| {
            let start = Instant::now();
            loop {
                let there = format!("SELECT embedding IS NOT NULL FROM messages WHERE id = {id}");
                if value(db, &there)? == "t" {
                    break;
                }
                check(interrupted, start)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            waits.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
            Ok(())
        })?;
    }
}

/// Draws the bar from the view `status` until `total` rows are embedded or `given_up`.
fn watch(
    page: &Page,
    db: &mut Db,
    label: &str,
    total: usize,
    start: Instant,
    interrupted: &AtomicBool,
    given_up: impl Fn() -> bool,
) -> Result<()> {
    loop {
        let embedded = value(db, "SELECT embedded FROM autoembed.status WHERE source = 'messages'::regclass")?;
        let embedded: usize = embedded.parse()?;
        page.bar(label, embedded.min(total), total, start.elapsed());
        if embedded >= total || given_up() {
            return Ok(());
        }
        check(interrupted, start).map_err(|e| {
            let state = value(db, "SELECT state FROM autoembed.status").unwrap_or_default();
            format!("{e}: {embedded} of {total} rows embedded, state {state}")
        })?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Errors: the demo is to end, or a step takes too long.
fn check(interrupted: &AtomicBool, start: Instant) -> Result<()> {
    if interrupted.load(Ordering::Relaxed) {
        return Err("interrupted".into());
    }
    if start.elapsed() > PATIENCE {
        return Err(format!("nothing more happened for {} s", PATIENCE.as_secs()).into());
    }
    Ok(())
}

/// Runs and shows one search. Errors: the best answer is not the expected one, or shares a word with the query.
fn search(page: &Page, db: &mut Db, query: &str, more: &str, expected: &str) -> Result<()> {
    let sql = format!("SELECT similarity::numeric(3,2), content FROM similar_messages('{query}', 3{more});");
    page.sql(&sql);
    let answers = table(db, &sql)?;
    page.table(&["similarity", "content"], &answers);
    let first = answers.first().and_then(|row| row.get(1)).map_or("", String::as_str);
    if !first.contains(expected) {
        return Err(format!("the best answer to \"{query}\" should be the one with \"{expected}\"").into());
    }
    let words = |text: &str| -> BTreeSet<String> {
        text.to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let shared = answers.iter().flat_map(|row| &words(&row[1]) & &words(query)).collect::<BTreeSet<_>>();
    if !shared.is_empty() {
        return Err(format!("the answers to \"{query}\" share words with it: {shared:?}").into());
    }
    Ok(())
}

fn connect(cluster: &Cluster, database: &str) -> Result<Db> {
    Ok(cluster.try_client_as(database, "postgres").map_err(|e| db::explain(&e))?)
}

/// Shows a statement and runs it.
fn shown(page: &Page, db: &mut Db, sql: &str) -> Result<()> {
    page.sql(sql);
    run_sql(db, sql)
}

fn run_sql(db: &mut Db, sql: &str) -> Result<()> {
    Ok(db.batch_execute(sql).map_err(|e| db::explain(&e))?)
}

fn value(db: &mut Db, sql: &str) -> Result<String> {
    let value = table(db, sql)?.into_iter().next().and_then(|row| row.into_iter().next());
    Ok(value.ok_or_else(|| format!("no answer to: {sql}"))?)
}

/// The rows of a query as text, NULL as "".
fn table(db: &mut Db, sql: &str) -> Result<Vec<Vec<String>>> {
    let rows = db.try_rows(sql).map_err(|e| db::explain(&e))?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
