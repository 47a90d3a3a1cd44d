//! A cluster with the extension, and models that call a server which is not ours.

use crate::server::{self, DIMS};
use autoembed_tests::db::literal;
use autoembed_tests::wait::seconds;
use autoembed_tests::{Cluster, Db, eventually, vectors};
use std::time::Duration;

const DATABASE: &str = "app";

/// How far two vectors of one text may be apart in one number: llama.cpp computes up to four texts at once, and its sums
/// depend on which these are, up to 8e-5 with its random model.
const TOLERANCE: f32 = 3e-4;

/// How long a test waits for work that is under way: a real server is slower than the stub, and two tests may use it.
pub const PATIENCE: Duration = seconds(90);

/// Retries come in fractions of a second.
pub struct Scene {
    /// The superuser's session.
    pub db: Db,
    /// Runs as long as this is there.
    _cluster: Cluster,
}

impl Scene {
    /// Up and running, without a model.
    pub fn new() -> Scene {
        let cluster = Cluster::builder()
            .preload(true)
            .setting("autoembed.retry_base_delay", "100ms")
            .setting("autoembed.retry_max_delay", "1s")
            .start();
        cluster.client("postgres").run(&format!("CREATE DATABASE {DATABASE}"));
        let mut db = cluster.client(DATABASE);
        db.run("CREATE EXTENSION autoembed CASCADE");
        Scene { db, _cluster: cluster }
    }

    /// A model at `url`; `more` are further arguments of `create_model`, as `, timeout => '1 s'`.
    pub fn create_model(&mut self, name: &str, url: &str, more: &str) {
        self.create_sized_model(name, url, DIMS, more);
    }

    /// A model with vectors of another length than the server's.
    pub fn create_sized_model(&mut self, name: &str, url: &str, dims: usize, more: &str) {
        self.db
            .run(&format!("SELECT autoembed.create_model('{name}', 'openai', {dims}, url => {}{more})", literal(url)));
    }

    /// The table `name (id, content)` with `texts`, enabled with the model of the same name.
    pub fn enable(&mut self, name: &str, texts: &[String]) {
        self.db.run(&format!("CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)"));
        self.insert(name, texts);
        self.db.run(&format!("SELECT autoembed.enable('{name}', 'content', model => '{name}')"));
    }

    /// One statement with all `texts`.
    pub fn insert(&mut self, table: &str, texts: &[String]) {
        if texts.is_empty() {
            return;
        }
        let values: Vec<String> = texts.iter().map(|text| format!("({})", literal(text))).collect();
        self.db.run(&format!("INSERT INTO {table} (content) VALUES {}", values.join(", ")));
    }

    /// Waits until nothing is left to do for `table`. Panics when a row was given up on the way.
    pub fn settle(&mut self, table: &str) {
        self.until_idle(table);
        let failed = self.db.rows("SELECT source, key, code, message FROM autoembed.failed_jobs");
        assert!(failed.is_empty(), "{} rows failed: {:?}", failed.len(), &failed[..failed.len().min(3)]);
    }

    /// Waits until nothing is left to do for `table`, whatever became of it.
    pub fn until_idle(&mut self, table: &str) {
        eventually(&format!("all of {table} is done"), PATIENCE, || {
            let columns = ["pending + in_flight", "state"].map(|column| self.status(column, table));
            if columns[0] == "0" { Ok(()) } else { Err(columns.join(" jobs, ")) }
        });
    }

    /// Waits until the state begins with `beginning`; gives the whole state.
    pub fn until_state(&mut self, table: &str, beginning: &str) -> String {
        eventually(&format!("{table} is {beginning}"), PATIENCE, || {
            let seen = self.status("state", table);
            if seen.starts_with(beginning) { Ok(seen) } else { Err(seen) }
        })
    }

    /// One column of the table's row in the view `status`.
    pub fn status(&mut self, column: &str, table: &str) -> String {
        self.db.text(&format!("SELECT ({column})::text FROM autoembed.status WHERE source = '{table}'::regclass"))
    }

    /// The requests for `table`, and how many of them were refused or went wrong.
    pub fn requests(&mut self, table: &str) -> (i64, i64) {
        let row = self.db.rows(&format!(
            "SELECT count(*), count(error_code) FROM autoembed.requests WHERE source = '{table}'::regclass AND inputs > 0"
        ));
        let numbers: Vec<i64> = row[0].iter().map(|number| number.as_deref().unwrap().parse().unwrap()).collect();
        (numbers[0], numbers[1])
    }

    /// `autoembed.test_model`: whether it answered, and the error.
    pub fn test_model(&mut self, name: &str) -> (bool, String) {
        let row =
            self.db.rows(&format!("SELECT ok, coalesce(error, '') FROM autoembed.test_model('{name}')")).remove(0);
        (row[0].as_deref() == Some("t"), row[1].clone().unwrap_or_default())
    }

    /// Asserts that each row of `table` that `condition` selects has the vector which the server at `url` gives to a
    /// direct request for its text. Gives the number of rows.
    pub fn assert_vectors(&mut self, table: &str, condition: &str, url: &str, key: Option<&str>) -> usize {
        let rows = self.db.rows(&format!("SELECT content, embedding::text FROM {table} WHERE {condition} ORDER BY id"));
        let texts: Vec<String> = rows.iter().map(|row| row[0].clone().expect("a text")).collect();
        let wanted = server::ask(url, key, &texts);
        let mut wrong = Vec::new();
        for (row, wanted) in rows.iter().zip(&wanted) {
            let stored = row[1].as_deref().map(vectors::parse);
            if !stored.as_ref().is_some_and(|stored| alike(stored, wanted)) {
                wrong.push((row[0].clone(), stored));
            }
        }
        assert!(!rows.is_empty(), "{table} has no such rows, so this would prove nothing");
        assert!(wrong.is_empty(), "{} of {} rows of {table}: {:?}", wrong.len(), rows.len(), &wrong[..1]);
        // Vectors of other texts would have been seen: only texts in scripts that the server cannot read are alike.
        let twins = wanted.windows(2).filter(|pair| alike(&pair[0], &pair[1])).count();
        assert!(twins * 20 <= rows.len(), "{twins} of {} texts have the vector of the next", rows.len());
        rows.len()
    }

    /// Asserts that a search for the text of each of the rows `ids` finds that row first.
    pub fn assert_found(&mut self, table: &str, ids: impl Iterator<Item = usize>) {
        for id in ids {
            let text = self.db.text(&format!("SELECT content FROM {table} WHERE id = {id}"));
            let found =
                self.db.rows(&format!("SELECT content, similarity FROM similar_{table}({}, 1)", literal(&text)));
            let similarity: f32 = found[0][1].as_deref().unwrap().parse().unwrap();
            assert_eq!(found[0][0].as_deref(), Some(text.as_str()), "row {id}");
            assert!((similarity - 1.0).abs() < 1e-5, "row {id}: {similarity}");
        }
    }

    /// Writes a file of the server's user with a key; gives its path.
    pub fn key_file(&mut self, key: &str) -> String {
        let path = format!("{}/model.key", self.db.text("SHOW data_directory"));
        // Made beside it and renamed, so that no reader finds half of it.
        let program = format!("umask 077; cat > '{path}.new' && mv '{path}.new' '{path}'");
        self.db.run(&format!("COPY (SELECT {}) TO PROGRAM {}", literal(key), literal(&program)));
        path
    }
}

/// Whether two vectors are those of one text, as this server computes them.
pub fn alike(left: &[f32], right: &[f32]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| (left - right).abs() < TOLERANCE)
}
