//! What one client does, from its seed alone: units of work, each one statement or one transaction.

use super::plan::Dice;
use super::tables::{TABLES, Table, region};
use super::texts;
use std::time::Duration;

/// Clients that write at the same time.
pub const CLIENTS: u64 = 4;

/// One step of a unit.
#[derive(Clone, Debug)]
pub enum Step {
    /// A statement.
    Sql(String),
    /// COPY with these lines.
    Copy(String, Vec<String>),
    /// The client thinks.
    Think(Duration),
}

/// Steps that belong together: all of a transaction, or one statement.
#[derive(Clone, Debug)]
pub struct Unit {
    /// For the figures.
    pub kind: &'static str,
    /// In order.
    pub steps: Vec<Step>,
}

/// The endless list of one client's units.
///
/// Row numbers are never used twice, so that an INSERT whose fate a crash hid can be forgotten. Statements that lock several
/// rows take the client's own; any one row may be anybody's. So users cannot deadlock with each other.
pub struct Load {
    client: u64,
    dice: Dice,
    fresh: u64,
    units: u64,
}

const KINDS: [(u64, &str); 19] = [
    (18, "inserts"),
    (4, "inserts of several rows"),
    (3, "COPYs"),
    (5, "upserts"),
    (4, "MERGEs"),
    (20, "updates"),
    (4, "updates of several rows"),
    (3, "updates of other columns"),
    (2, "updates that change nothing"),
    (9, "deletes"),
    (6, "key changes"),
    (4, "moves between partitions"),
    (2, "writes to a partition itself"),
    (4, "transactions"),
    (4, "rollbacks"),
    (4, "savepoints"),
    (2, "prepared transactions"),
    (3, "deletes and inserts of the same key"),
    (2, "writes in the slow lane"),
];

impl Load {
    /// The load of one client.
    pub fn new(seed: u64, client: u64) -> Load {
        Load { client, dice: Dice::new(seed, 100 + client), fresh: 0, units: 0 }
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.number(self.fresh, self.client)
    }

    fn number(&self, count: u64, client: u64) -> u64 {
        count * CLIENTS + client
    }

    /// A row that this client wrote once, most likely not long ago.
    fn own(&mut self) -> u64 {
        self.recent(self.client)
    }

    fn owns(&mut self, n: u64) -> Vec<u64> {
        (0..n).map(|_| self.own()).collect()
    }

    /// A row of any client.
    fn any(&mut self) -> u64 {
        let client = self.dice.below(CLIENTS);
        self.recent(client)
    }

    /// Before the first row: number 0, which nobody ever inserts as a fresh one.
    fn recent(&mut self, client: u64) -> u64 {
        let back = self.dice.below(self.fresh.clamp(1, 400));
        self.number(self.fresh - back, client)
    }

    fn table(&mut self) -> &'static Table {
        self.dice.pick(&TABLES)
    }

    fn change(&mut self) -> String {
        let table = self.table();
        let n = self.own();
        match self.dice.below(5) {
            0 => {
                let n = self.fresh();
                table.insert(&mut self.dice, &[n])
            }
            1 => format!("DELETE FROM {} WHERE {}", table.name, table.is_row(n)),
            _ => table.update(&mut self.dice, n),
        }
    }

    fn changes(&mut self, steps: &mut Vec<Step>) {
        for _ in 0..=self.dice.below(4) {
            steps.push(Step::Sql(self.change()));
        }
        if self.dice.below(3) == 0 {
            steps.push(Step::Think(self.dice.ms(5, 120)));
        }
    }

    fn one(&mut self, kind: &str) -> String {
        let table = self.table();
        let (name, own, any) = (table.name, self.own(), self.any());
        // Who updates a row that another moves to another partition gets an error from Postgres itself.
        let any = if name == "logs" { own } else { any };
        match kind {
            "inserts" => {
                let n = self.fresh();
                table.insert(&mut self.dice, &[n])
            }
            "inserts of several rows" => {
                let rows: Vec<u64> = (0..2 + self.dice.below(12)).map(|_| self.fresh()).collect();
                table.insert(&mut self.dice, &rows)
            }
            // Where a row has moved, its first key is free: a second row of this number would stand in the way later.
            "upserts" if name != "logs" => table.upsert(&mut self.dice, own),
            "MERGEs" => table.merge(&mut self.dice, own),
            "updates of several rows" => {
                let rows = self.owns(8);
                format!("UPDATE {name} SET body = body || ' more' WHERE {}", table.are_rows(&rows))
            }
            "updates of other columns" => {
                format!("UPDATE {name} SET note = 'note {}' WHERE {}", self.dice.below(100), table.is_row(any))
            }
            "updates that change nothing" => format!("UPDATE {name} SET body = body WHERE {}", table.is_row(any)),
            "deletes" => format!("DELETE FROM {name} WHERE {}", table.is_row(any)),
            "key changes" => table.change_key(own, self.fresh()),
            "moves between partitions" => {
                let to = self.dice.pick(&["a", "b", "elsewhere"]);
                format!("UPDATE logs SET region = '{to}' WHERE id = {own}")
            }
            "writes to a partition itself" => {
                let n = self.fresh();
                let leaf = if region(n) == "elsewhere" {
                    "logs_rest"
                } else {
                    ["logs_a", "logs_b"][usize::from(region(n) == "b")]
                };
                let body = texts::text(&mut self.dice, "leaf");
                format!("INSERT INTO {leaf} (region, id, body) VALUES ('{}', {n}, {body})", region(n))
            }
            _ => table.update(&mut self.dice, any),
        }
    }

    fn copy(&mut self) -> Vec<Step> {
        let lines = (0..5 + self.dice.below(40)).map(|_| {
            let n = self.fresh();
            format!("{n}\t{}\n", texts::plain(&mut self.dice, "a client"))
        });
        let lines = lines.collect();
        let table = self.dice.pick(&["plain", "cleared"]);
        vec![Step::Copy(format!("COPY {table} (id, body) FROM STDIN"), lines)]
    }

    fn transaction(&mut self, end: &str) -> Vec<Step> {
        let mut steps = vec![sql("BEGIN")];
        self.changes(&mut steps);
        steps.push(sql(end));
        steps
    }

    fn savepoints(&mut self) -> Vec<Step> {
        let mut steps = vec![sql("BEGIN")];
        self.changes(&mut steps);
        steps.push(sql("SAVEPOINT one"));
        self.changes(&mut steps);
        if self.dice.below(2) == 0 {
            steps.push(sql("SAVEPOINT two"));
            self.changes(&mut steps);
            steps.push(sql("RELEASE two"));
        }
        steps.push(sql(self.dice.pick(&["ROLLBACK TO one", "ROLLBACK TO one", "RELEASE one"])));
        self.changes(&mut steps);
        steps.push(sql(self.dice.pick(&["COMMIT", "COMMIT", "ROLLBACK"])));
        steps
    }

    /// Only new rows: the transaction of a client that was cut off holds nobody up.
    fn prepared(&mut self) -> Vec<Step> {
        let name = prepared_name(self.client, self.units);
        let mut steps = vec![sql("BEGIN")];
        for _ in 0..2 {
            let (table, n) = (self.table(), self.fresh());
            steps.push(Step::Sql(table.insert(&mut self.dice, &[n])));
        }
        steps.push(Step::Sql(format!("PREPARE TRANSACTION '{name}'")));
        steps.push(Step::Think(self.dice.ms(0, 200)));
        let end = self.dice.pick(&["COMMIT", "COMMIT", "ROLLBACK"]);
        steps.push(Step::Sql(format!("{end} PREPARED '{name}'")));
        steps
    }
}

/// The name of a client's prepared transaction: the client finds its own by the beginning.
pub fn prepared_name(client: u64, unit: u64) -> String {
    format!("client {client} unit {unit}")
}

impl Iterator for Load {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        self.units += 1;
        let mut left = self.dice.below(KINDS.iter().map(|(weight, _)| weight).sum());
        let kind = KINDS.iter().find(|(weight, _)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let kind = kind.map_or("updates", |(_, kind)| kind);
        let steps = match kind {
            "COPYs" => self.copy(),
            "transactions" => self.transaction("COMMIT"),
            "rollbacks" => self.transaction("ROLLBACK"),
            "savepoints" => self.savepoints(),
            "prepared transactions" => self.prepared(),
            "deletes and inserts of the same key" => {
                let (table, n) = (self.table(), self.own());
                let delete = format!("DELETE FROM {} WHERE {}", table.name, table.is_row(n));
                vec![sql("BEGIN"), Step::Sql(delete), Step::Sql(table.insert(&mut self.dice, &[n])), sql("COMMIT")]
            }
            // Postgres locks the partition, then the root, and a change of the definition the other way round, which is a deadlock
            // without anybody's fault. So the root comes first here.
            "writes to a partition itself" => {
                let root = sql("LOCK TABLE ONLY logs IN ROW EXCLUSIVE MODE");
                vec![sql("BEGIN"), root, Step::Sql(self.one(kind)), sql("COMMIT")]
            }
            "writes in the slow lane" => {
                let mut steps = vec![sql("BEGIN"), sql("SET LOCAL autoembed.lane = 'backfill'")];
                self.changes(&mut steps);
                steps.push(sql("COMMIT"));
                steps
            }
            kind => vec![Step::Sql(self.one(kind))],
        };
        Some(Unit { kind, steps })
    }
}

fn sql(text: &str) -> Step {
    Step::Sql(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, client: u64) -> Vec<String> {
        Load::new(seed, client).take(2000).map(|unit| format!("{unit:?}")).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_load() {
        assert_eq!(first(7, 0), first(7, 0));
        assert_ne!(first(7, 0), first(7, 1));
        assert_ne!(first(7, 0), first(8, 0));
    }

    #[test]
    fn every_kind_has_its_turn() {
        let kinds: std::collections::HashSet<_> = Load::new(7, 0).take(2000).map(|unit| unit.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
    }
}
