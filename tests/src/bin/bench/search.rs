//! What a search function costs beside the query that it stands for, and what it finds.

use super::client::Client;
use super::figures::{Rounds, Spread, number, percentile};
use super::report::{Goal, Section, Table};
use super::scene::{Bench, Session, create_model, stub};
use autoembed_stub::{Stub, Vectors};
use autoembed_tests::Dice;
use autoembed_tests::db::literal;
use autoembed_tests::retrieval::Set;
use std::collections::HashSet;
use std::time::Duration;

const DATABASE: &str = "search";
/// Dimensions of the built-in model, whose vectors the embedding server answers: vectors of texts lie closer together in some places than
/// in others, as those of random numbers do not.
const DIMS: usize = 256;
const K: usize = 10;
/// One row in so many passes the filter.
const TENANTS: usize = 100;

/// One kind of search, in milliseconds: through the function, and as the bare query with the vector.
struct Kind {
    what: &'static str,
    bare: Spread,
    function: Spread,
    /// Of the exact answer, in percent.
    bare_found: Spread,
    found: Spread,
}

struct Search {
    rows: usize,
    queries: usize,
    kinds: Vec<Kind>,
    /// The embedding server alone, one text.
    direct: Spread,
}

/// What is searched for, with its vector.
struct Query {
    text: String,
    vector: String,
    tenant: usize,
}

const PLAIN: usize = 0;
const INLINED: usize = 1;
const EMBEDDED: usize = 2;
const FILTERED: usize = 3;
const UNCACHED: usize = 4;
const KINDS: [&str; 5] = [
    "query text remembered; the bare query with the vector as parameter",
    "query text remembered; the bare query with the vector inlined",
    "plain SQL with `embed()`, remembered; the bare query with the vector as parameter",
    "with a filter that one row in a hundred passes; the bare query with the same condition",
    "query text new; the bare query with the vector as parameter",
];

/// Searches of all kinds.
pub fn measure(bench: &Bench) -> Result<Section, String> {
    let rows = bench.size.of(1000, 25_000, 100_000);
    let count = bench.size.of(5, 40, 100);
    let stub = stub(Vectors::Builtin, Duration::ZERO)?;
    let mut db = bench.database(DATABASE)?;
    create_model(&mut db, "bench", DIMS, &stub)?;
    let set = Set::read("packages")?;
    fill(bench, &mut db, &set, rows)?;
    let mut dice = Dice::new(2, 0);
    let mut queries = Vec::new();
    for text in set.queries.iter().take(count) {
        let vector = db.text(&format!("SELECT autoembed.embed({}, 'bench')", literal(text)))?;
        queries.push(Query { text: text.clone(), vector, tenant: dice.place(TENANTS) });
    }
    let kind = |what| Kind {
        what,
        bare: Spread::default(),
        function: Spread::default(),
        bare_found: Spread::default(),
        found: Spread::default(),
    };
    let mut all = Search { rows, queries: queries.len(), kinds: KINDS.map(kind).into(), direct: Spread::default() };
    prepare(&mut db)?;
    recall(bench, &mut db, &queries, &mut all)?;
    let mut rounds = Rounds::new(bench.size.seconds(10, 60), 15);
    let mut round = 0;
    while rounds.another() {
        round += 1;
        one_round(bench, &mut db, &stub, &queries, &mut all, round)?;
    }
    drop(db);
    bench.drop_database(DATABASE)?;
    Ok(section(&all))
}

/// Rows of two descriptions each, so that none is like another, embedded, and indexed once they are there.
fn fill(bench: &Bench, db: &mut Session, set: &Set, rows: usize) -> Result<(), String> {
    db.run(&format!(
        "CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, tenant int, embedding vector({DIMS}))"
    ))?;
    let mut dice = Dice::new(1, 0);
    let mut piece = || {
        let whole = set.docs.get(dice.place(set.docs.len())).map(String::as_str).unwrap_or_default();
        whole.chars().take(150).map(|c| if matches!(c, '\\' | '\t' | '\n') { ' ' } else { c }).collect::<String>()
    };
    let texts: String = (0..rows).map(|row| format!("{} {}\t{}\n", piece(), piece(), row % TENANTS)).collect();
    db.timed_copy("COPY docs (body, tenant) FROM STDIN", texts.as_bytes())?;
    db.run("SELECT autoembed.enable('docs', 'body', model => 'bench', index => 'none')")?;
    bench.until_done(db, 0)?;
    bench.say("search: the index is built");
    db.run("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")?;
    db.run("CREATE INDEX ON docs (tenant)")?;
    db.run("VACUUM ANALYZE docs")
}

fn prepare(db: &mut Session) -> Result<(), String> {
    let bare = |filter: &str| {
        format!("SELECT id, body, 1 - (embedding <=> $1) FROM docs {filter} ORDER BY embedding <=> $1 LIMIT {K}")
    };
    let embedded = bare("").replace("$1", "autoembed.embed($1, 'bench')");
    db.run(&format!(
        "PREPARE bare (vector) AS {}; PREPARE bare_filtered (vector, int) AS {};
         PREPARE found (text) AS SELECT * FROM similar_docs($1, {K});
         PREPARE found_filtered (text, jsonb) AS SELECT * FROM similar_docs($1, {K}, filter => $2);
         PREPARE embedded (text) AS {embedded}",
        bare(""),
        bare("WHERE tenant = $2"),
    ))
}

/// The bare statement and the function's, of one kind.
fn statements(kind: usize, query: &Query, fresh: usize) -> [String; 2] {
    let Query { text, vector, tenant } = query;
    let bare = format!("EXECUTE bare ('{vector}')");
    let found = |text: &str| format!("EXECUTE found ({})", literal(text));
    match kind {
        INLINED => {
            let inlined = format!(
                "SELECT id, body, 1 - (embedding <=> '{vector}') FROM docs ORDER BY embedding <=> '{vector}' LIMIT {K}"
            );
            [inlined, format!("SELECT * FROM similar_docs({}, {K})", literal(text))]
        }
        EMBEDDED => [bare, format!("EXECUTE embedded ({})", literal(text))],
        FILTERED => [
            format!("EXECUTE bare_filtered ('{vector}', {tenant})"),
            format!("EXECUTE found_filtered ({}, '{{\"tenant\": {tenant}}}')", literal(text)),
        ],
        UNCACHED => [bare, found(&format!("{text} ({fresh})"))],
        _ => [bare, found(text)],
    }
}

fn one_round(
    bench: &Bench,
    db: &mut Session,
    stub: &Stub,
    queries: &[Query],
    all: &mut Search,
    round: usize,
) -> Result<(), String> {
    for (kind, figures) in all.kinds.iter_mut().enumerate() {
        let mut took = [Vec::new(), Vec::new()];
        for (place, query) in queries.iter().enumerate() {
            bench.check()?;
            let both = statements(kind, query, round * 1_000_000 + place);
            // Which one comes first changes: the second finds the pages warm.
            let order = if (place + round).is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for side in order {
                if let (Some(times), Some(sql)) = (took.get_mut(side), both.get(side)) {
                    times.push(db.timed_query(sql)? * 1000.0);
                }
            }
        }
        let [bare, function] = took.map(|times| percentile(&times, 50).unwrap_or(f64::NAN));
        figures.bare.push(bare);
        figures.function.push(function);
    }
    let mut client = Client::new(stub, 1).map_err(|e| e.to_string())?;
    let mut direct = Vec::new();
    for _ in queries {
        direct.push(client.ask().map_err(|e| e.to_string())?.as_secs_f64() * 1000.0);
    }
    percentile(&direct, 50).into_iter().for_each(|ms| all.direct.push(ms));
    Ok(())
}

/// How many of the nearest rows are among those that were found, in percent, over all queries.
fn recall(bench: &Bench, db: &mut Session, queries: &[Query], all: &mut Search) -> Result<(), String> {
    for kind in [PLAIN, FILTERED] {
        let mut sums = [0.0; 2];
        for query in queries {
            bench.check()?;
            let both = statements(kind, query, 0);
            let filter = if kind == FILTERED { format!("WHERE tenant = {}", query.tenant) } else { String::new() };
            // A sum has no index: all rows are read.
            let exact =
                format!("SELECT id FROM docs {filter} ORDER BY (embedding <=> '{}') + 0.0, id LIMIT {K}", query.vector);
            let exact: HashSet<String> = db.column(&exact)?.into_iter().collect();
            for (sum, sql) in sums.iter_mut().zip(&both) {
                let found = db.column(sql)?;
                *sum += found.iter().filter(|id| exact.contains(*id)).count() as f64 / exact.len().max(1) as f64;
            }
        }
        if let Some(figures) = all.kinds.get_mut(kind) {
            let [bare, found] = sums.map(|sum| 100.0 * sum / queries.len().max(1) as f64);
            figures.bare_found = bare.into();
            figures.found = found.into();
        }
    }
    Ok(())
}

fn section(all: &Search) -> Section {
    let columns =
        ["search; what it is compared with", "bare, ms", "search, ms", "ratio", "bare finds, %", "search finds, %"];
    let mut table = Table::new("Medians over the queries of a round; *finds*: of the ten nearest rows.", &columns);
    let mut goals = Vec::new();
    let rows = number(all.rows as f64);
    for (place, kind) in all.kinds.iter().enumerate() {
        let ratio = kind.function.over(&kind.bare);
        if place == PLAIN {
            goals.push(Goal::at_most(
                &format!("`similar_docs`, query text remembered, {rows} rows: times the bare query"),
                1.1,
                ratio.clone(),
            ));
        }
        let figures: [super::report::Cell; 5] = [
            (&kind.bare).into(),
            (&kind.function).into(),
            ratio.into(),
            (&kind.bare_found).into(),
            (&kind.found).into(),
        ];
        table.row([kind.what.into()].into_iter().chain(figures));
    }
    let none = Spread::default();
    let alone: [super::report::Cell; 5] =
        [(&none).into(), (&all.direct).into(), (&none).into(), (&none).into(), (&none).into()];
    table.row(["the embedding server alone, one text".into()].into_iter().chain(alone));
    Section {
        name: "search",
        title: "Search",
        how: format!(
            "{rows} rows of package descriptions, {DIMS} dimensions, HNSW index with pgvector's defaults; the {K} nearest for {} queries. Both \
             sides through prepared statements in one session, but for *inlined*; which of the two comes first changes from query to query. \
             The bare query has the same columns. A remembered query text is one that the session has searched for before.",
            all.queries
        ),
        tables: vec![table],
        goals,
        pictures: Vec::new(),
    }
}
