//! The tables of a run, one for each way in which a table can be awkward, and how each is written to.

use super::plan::Dice;
use super::texts;
use autoembed_tests::db::literal;

/// A table and what the clients must know of it.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Columns of its primary key.
    pub key: &'static str,
    /// Columns of its text.
    pub columns: &'static str,
    /// What is embedded: an SQL expression over the row.
    pub input: &'static str,
    /// More arguments of `enable`.
    pub enabled: &'static str,
    /// Made before anything is written.
    pub made: &'static str,
}

/// Every write of a vector leaves its text and its vector in `audit`, in the order of the writes of each row.
pub const PLAIN: Table = Table {
    name: "plain",
    key: "id",
    columns: "body",
    input: "body",
    enabled: "",
    made: "CREATE TABLE plain (id bigint PRIMARY KEY, body text, note text, updated_at timestamptz);
           CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
           CREATE TRIGGER touch BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION touch();
           CREATE TABLE audit (number bigserial PRIMARY KEY, id bigint, body text, vector text);
           CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO public.audit (id, body, vector) VALUES (NEW.id, NEW.body, NEW.embedding::text); RETURN NULL; END $$;",
};

/// To be run once `plain` has its vector column.
pub const AUDIT: &str = "CREATE TRIGGER audit AFTER UPDATE ON plain FOR EACH ROW
    WHEN (OLD.embedding IS DISTINCT FROM NEW.embedding) EXECUTE FUNCTION audited()";

/// A vector that is there always belongs to the text, also while things go wrong; a trigger edits the text.
pub const CLEARED: Table = Table {
    name: "cleared",
    key: "id",
    columns: "body",
    input: "body",
    enabled: ", on_change => 'clear'",
    made: "CREATE TABLE cleared (id bigint PRIMARY KEY, body text, note text);
           CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             NEW.body := replace(NEW.body, 'number', '№');
             IF NEW.note IS NOT NULL THEN NEW.body := split_part(NEW.body, ' [', 1) || ' [' || NEW.note || ']'; END IF;
             RETURN NEW;
           END $$;
           CREATE TRIGGER z_edit BEFORE INSERT OR UPDATE ON cleared FOR EACH ROW EXECUTE FUNCTION edit();",
};

/// All of them.
pub const TABLES: [&Table; 7] = [
    &PLAIN,
    &CLEARED,
    &Table {
        name: "settling",
        key: "id",
        columns: "body",
        input: "body",
        enabled: ", delay => '300 ms'",
        made: "CREATE TABLE settling (id uuid PRIMARY KEY, body text, note text);",
    },
    &Table {
        name: "letters",
        key: "country, name",
        columns: "body",
        input: "body",
        enabled: ", index => 'none'",
        made: "CREATE TABLE letters (country text, name text, body text, note text, PRIMARY KEY (country, name));",
    },
    &Table {
        name: "logs",
        key: "region, id",
        columns: "body",
        input: "body",
        enabled: "",
        made: "CREATE TABLE logs (region text, id bigint, body text, note text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
               CREATE TABLE logs_a PARTITION OF logs FOR VALUES IN ('a');
               CREATE TABLE logs_b PARTITION OF logs FOR VALUES IN ('b');
               CREATE TABLE logs_rest PARTITION OF logs DEFAULT;",
    },
    &Table {
        name: "pages",
        key: "id",
        columns: "title, body",
        input: "title || E'\\n' || body",
        enabled: ", on_change => 'clear'",
        made: "CREATE TABLE pages (id int PRIMARY KEY, title text, body text, note text);",
    },
    &Table {
        name: "essays",
        key: "id",
        columns: "body",
        input: "body",
        enabled: ", chunk_size => 16, chunk_overlap => 4",
        made: "CREATE TABLE essays (id bigint PRIMARY KEY, body text, note text);",
    },
];

impl Table {
    /// The table with its chunks, where its texts go in chunks.
    pub fn chunks(&self) -> Option<String> {
        self.enabled.contains("chunk_size").then(|| format!("{}_chunks", self.name))
    }

    /// Whether a vector that is there always belongs to the text.
    pub fn clears(&self) -> bool {
        self.enabled.contains("'clear'")
    }

    /// The key of row `n` as a list of values.
    pub fn key_of(&self, n: u64) -> String {
        match self.name {
            "settling" => format!("'{:08x}-c4a0-4000-8000-{n:012x}'", n % 977),
            "letters" => {
                format!("'{}', {}", ["de", "fr", "'' x"][usize::try_from(n % 3).unwrap_or(0)], literal(&texts::name(n)))
            }
            "logs" => format!("'{}', {n}", region(n)),
            _ => n.to_string(),
        }
    }

    /// The condition for row `n`, wherever it has moved.
    pub fn is_row(&self, n: u64) -> String {
        match self.name {
            "logs" => format!("id = {n}"),
            _ => format!("({}) = ({})", self.key, self.key_of(n)),
        }
    }

    /// The condition for any of these rows, in one statement.
    pub fn are_rows(&self, rows: &[u64]) -> String {
        let all: Vec<String> = rows.iter().map(|n| format!("({})", self.is_row(*n))).collect();
        all.join(" OR ")
    }

    /// New texts as a list of values.
    pub fn texts(&self, dice: &mut Dice) -> String {
        let texts: Vec<String> = self.columns.split(',').map(|_| texts::text(dice, self.name)).collect();
        texts.join(", ")
    }

    /// Row `n` with new texts, in brackets.
    pub fn row(&self, dice: &mut Dice, n: u64) -> String {
        format!("({}, {})", self.key_of(n), self.texts(dice))
    }

    /// INSERT of these rows.
    pub fn insert(&self, dice: &mut Dice, rows: &[u64]) -> String {
        let values: Vec<String> = rows.iter().map(|n| self.row(dice, *n)).collect();
        format!("INSERT INTO {} ({}, {}) VALUES {}", self.name, self.key, self.columns, values.join(", "))
    }

    /// UPDATE of one row's text, or of one of its texts.
    pub fn update(&self, dice: &mut Dice, n: u64) -> String {
        let columns: Vec<&str> = self.columns.split(", ").collect();
        let column = dice.pick(&columns);
        format!("UPDATE {} SET {column} = {} WHERE {}", self.name, texts::text(dice, self.name), self.is_row(n))
    }

    /// INSERT, or UPDATE where the row is there.
    pub fn upsert(&self, dice: &mut Dice, n: u64) -> String {
        let set: Vec<String> = self.columns.split(", ").map(|column| format!("{column} = excluded.{column}")).collect();
        format!("{} ON CONFLICT ({}) DO UPDATE SET {}", self.insert(dice, &[n]), self.key, set.join(", "))
    }

    /// The same as a MERGE.
    pub fn merge(&self, dice: &mut Dice, n: u64) -> String {
        let each = |form: &dyn Fn(&str) -> String| self.columns.split(", ").map(form).collect::<Vec<_>>().join(", ");
        format!(
            "MERGE INTO {name} t USING (SELECT {texts} FROM (VALUES ({values})) v ({columns})) s ON {is_row}
             WHEN MATCHED THEN UPDATE SET {set} WHEN NOT MATCHED THEN INSERT ({key}, {columns}) VALUES ({key_of}, {new})",
            name = self.name,
            texts = each(&|column| format!("{column}::text")),
            values = self.texts(dice),
            columns = self.columns,
            is_row = self.is_row(n),
            set = each(&|column| format!("{column} = s.{column}")),
            key = self.key,
            key_of = self.key_of(n),
            new = each(&|column| format!("s.{column}")),
        )
    }

    /// The row gets a new key, with its text as it is.
    pub fn change_key(&self, from: u64, to: u64) -> String {
        format!("UPDATE {} SET ({}) = ROW ({}) WHERE {}", self.name, self.key, self.key_of(to), self.is_row(from))
    }
}

/// The partition that row `n` begins in.
pub fn region(n: u64) -> &'static str {
    ["a", "b", "elsewhere"][usize::try_from(n % 3).unwrap_or(0)]
}
