//! Sets of questions and answers, and how well each way of searching finds them: through the search functions, and by Postgres'
//! own full text search beside them.

use crate::db::{Db, literal};
use std::fs;
use std::path::Path;

/// Questions and answers: query i asks for document i.
pub struct Set {
    /// Also the table's name.
    pub name: String,
    /// The text search configuration.
    pub configuration: String,
    /// What is asked.
    pub queries: Vec<String>,
    /// What is there.
    pub docs: Vec<String>,
}

/// A way of searching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Any of the query's words, by `ts_rank_cd`.
    FullText,
    /// The words' information, without vectors.
    Words,
    /// `similar_<table>`, semantic.
    Vectors,
    /// `similar_<table>`, hybrid.
    Hybrid,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::FullText, Way::Words, Way::Vectors, Way::Hybrid];

    /// What it is called in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::FullText => "full text",
            Way::Words => "words",
            Way::Vectors => "vectors",
            Way::Hybrid => "hybrid",
        }
    }
}

/// How well a way finds what is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quality {
    /// Mean of 1 / place of the right answer, 0 where it is not among the first ten.
    pub mrr: f64,
    /// The share of queries whose answer is among the first ten.
    pub recall: f64,
}

impl Set {
    /// A file of `tests/data`, by its name without `.json`, or any file of that form: `{"queries": [...], "docs": [...]}`, and where it is not
    /// English `"configuration"`.
    ///
    /// # Errors
    /// There is no such file, or it has another form.
    pub fn read(name: &str) -> Result<Set, String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(format!("{name}.json"));
        let file = if file.exists() { file } else { name.into() };
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let parsed: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let list = |key: &str| -> Option<Vec<String>> {
            parsed[key].as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let (Some(queries), Some(docs)) = (list("queries"), list("docs")) else {
            return Err(format!("{}: not {{\"queries\": [...], \"docs\": [...]}}", file.display()));
        };
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let configuration = parsed["configuration"].as_str().unwrap_or("english").to_owned();
        Ok(Set { name, configuration, queries, docs })
    }

    /// The first `count` questions and answers.
    #[must_use]
    pub fn first(mut self, count: usize) -> Set {
        self.queries.truncate(count);
        self.docs.truncate(count);
        self
    }

    /// Makes the set's table `(id, content)`, embedded by the built-in model and with a text index. Panics where that fails.
    pub fn load(&self, db: &mut Db) {
        let Set { name, configuration, .. } = self;
        let rows: Vec<String> =
            self.docs.iter().enumerate().map(|(i, text)| format!("({i}, {})", literal(text))).collect();
        db.run(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, content text); INSERT INTO {name} VALUES {};
             SELECT autoembed.enable('{name}', 'content', model => 'builtin', text_search => 'pg_catalog.{configuration}')",
            rows.join(", ")
        ));
        assert!(db.yes(&format!("SELECT autoembed.wait('{name}', '5 min')")), "{name} was not embedded");
        assert!(db.batch_execute(&format!("ANALYZE {name}")).is_ok());
        // For the searches without the extension: the words of each text, and how rare each is.
        db.run(&format!(
            "CREATE TABLE {name}_words AS SELECT id, to_tsvector('{configuration}', content) AS v FROM {name};
             CREATE TABLE {name}_rare AS SELECT word, ln(1 + ((SELECT count(*) FROM {name}) - ndoc + 0.5) / (ndoc + 0.5)) AS information
             FROM ts_stat('SELECT v FROM {name}_words'); ALTER TABLE {name}_rare ADD PRIMARY KEY (word)"
        ));
    }

    /// How well one way finds the answers.
    pub fn quality(&self, db: &mut Db, way: Way) -> Quality {
        let mut sum = Quality::default();
        for (right, query) in self.queries.iter().enumerate() {
            let found = db.column(&self.search(way, query));
            if let Some(place) = found.iter().position(|id| *id == right.to_string()) {
                sum.mrr += 1.0 / (place + 1) as f64;
                sum.recall += 1.0;
            }
        }
        let count = self.queries.len().max(1) as f64;
        Quality { mrr: sum.mrr / count, recall: sum.recall / count }
    }

    fn search(&self, way: Way, query: &str) -> String {
        let (name, configuration, query) = (&self.name, &self.configuration, literal(query));
        let of_query = format!("unnest(to_tsvector('{configuration}', {query})) q");
        match way {
            Way::Vectors => format!("SELECT id FROM similar_{name}({query}, 10)"),
            Way::Hybrid => format!("SELECT id FROM similar_{name}({query}, 10, mode => 'hybrid')"),
            Way::FullText => format!(
                "SELECT w.id FROM {name}_words w, (SELECT string_agg(quote_literal(q.lexeme), '|')::tsquery AS any FROM {of_query}) q
                 WHERE w.v @@ q.any ORDER BY ts_rank_cd(w.v, q.any) DESC, w.id LIMIT 10"
            ),
            Way::Words => format!(
                "SELECT w.id FROM {name}_words w,
                   (SELECT r.information, quote_literal(q.lexeme)::tsquery AS one FROM {of_query} JOIN {name}_rare r ON r.word = q.lexeme) q,
                   (SELECT avg(length(v)) AS usual FROM {name}_words) l,
                   LATERAL (SELECT ts_rank('{{1,1,1,1}}', w.v, q.one) * 1.645 AS n) o
                 WHERE w.v @@ q.one GROUP BY w.id
                 ORDER BY sum(q.information * o.n * 2.2 / (o.n + 1.2 * (0.5 + 0.5 * length(w.v) / l.usual))) DESC, w.id LIMIT 10"
            ),
        }
    }
}
