//! One client: a session that plays a load, and judges how its statements are treated.

use super::ledger::Ledger;
use super::load::{Load, Step, Unit, prepared_name};
use super::plan::Dice;
use super::scene::{DATABASE, USER};
use autoembed_tests::{Cluster, Db, db};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// How a step ended.
enum End {
    Done,
    /// The session is gone.
    Lost(String),
    /// The server refused the statement.
    Refused(String),
}

/// A client of a run.
pub struct Client<'a> {
    cluster: &'a Cluster,
    ledger: &'a Ledger,
    client: u64,
    load: Load,
    /// For the pauses between units: not the load's dice, since a lost session skips some.
    dice: Dice,
    /// The longest of them.
    pause: u64,
    session: Option<(Db, u64)>,
}

impl<'a> Client<'a> {
    /// A client that pauses up to `pause` milliseconds between its units.
    pub fn new(cluster: &'a Cluster, ledger: &'a Ledger, seed: u64, client: u64, pause: u64) -> Client<'a> {
        let dice = Dice::new(seed, 200 + client);
        Client { cluster, ledger, client, load: Load::new(seed, client), dice, pause, session: None }
    }

    /// Plays units until the run stops.
    pub fn play(mut self) {
        while !self.ledger.stopping() {
            let Some(unit) = self.load.next() else { break };
            if self.session.is_none() && !self.connect() {
                break;
            }
            self.unit(&unit);
            std::thread::sleep(self.dice.ms(0, self.pause));
        }
        // What was cut off may still wait to be committed or rolled back.
        if self.session.is_some() || self.connect() {
            self.end_prepared();
        }
    }

    fn unit(&mut self, unit: &Unit) {
        let Some((session, since)) = &mut self.session else { return };
        let since = *since;
        for step in &unit.steps {
            match run(session, self.ledger, step) {
                End::Done => {}
                End::Refused(why) => {
                    self.ledger.wrong(&format!("a user's statement failed ({}): {why}", unit.kind));
                    // In or out of a transaction, the next unit starts afresh.
                    self.session = None;
                    return;
                }
                End::Lost(why) => {
                    self.ledger.count("sessions lost");
                    if !self.ledger.may_be_lost(since) {
                        self.ledger.wrong(&format!("a user's session was lost though nothing was killed: {why}"));
                    }
                    self.session = None;
                    return;
                }
            }
        }
        self.ledger.count(unit.kind);
    }

    /// Tries until the server takes the session; false: not within a minute.
    fn connect(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let since = self.ledger.sessions_broken();
            match self.cluster.try_client_as(DATABASE, USER) {
                Ok(session) => {
                    self.session = Some((session, since));
                    self.end_prepared();
                    if self.session.is_some() {
                        return true;
                    }
                }
                Err(e) if !self.ledger.may_be_lost(since) => {
                    self.ledger.wrong(&format!("a user got no session: {}", db::explain(&e)));
                    return false;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.ledger.wrong("a user got no session for a minute");
        false
    }

    /// Ends this client's prepared transactions that a lost session left behind.
    fn end_prepared(&mut self) {
        let Some((session, _)) = &mut self.session else { return };
        let mine = prepared_name(self.client, 0);
        let mine = db::literal(&format!("{}%", mine.trim_end_matches('0')));
        let left = session.try_rows(&format!("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE {mine}"));
        let Ok(left) = left else {
            self.session = None;
            return;
        };
        for name in left.into_iter().flatten().flatten() {
            let end = self.dice.pick(&["COMMIT", "ROLLBACK"]);
            if session.batch_execute(&format!("{end} PREPARED {}", db::literal(&name))).is_err() {
                self.session = None;
                return;
            }
            self.ledger.count("prepared transactions found again");
        }
    }
}

fn run(session: &mut Db, ledger: &Ledger, step: &Step) -> End {
    let (before, begun) = (ledger.unrest(), Instant::now());
    let (shown, result) = match step {
        Step::Think(time) => {
            std::thread::sleep(*time);
            return End::Done;
        }
        Step::Sql(sql) => (sql, session.batch_execute(sql)),
        Step::Copy(sql, lines) => (sql, copy(session, sql, lines)),
    };
    let Err(e) = result else {
        ledger.count("statements");
        ledger.took(before, begun.elapsed(), shown);
        return End::Done;
    };
    // Classes 08 and 57P: the session, not the statement.
    match db::SqlError::of(&e) {
        Some(error) if !error.code.starts_with("57P") && !error.code.starts_with("08") => {
            End::Refused(format!("{} in: {shown}", db::explain(&e).replace('\n', " ")))
        }
        _ => End::Lost(db::explain(&e).replace('\n', " ")),
    }
}

fn copy(session: &mut Db, sql: &str, lines: &[String]) -> Result<(), postgres::Error> {
    let mut writer = session.copy_in(sql)?;
    for line in lines {
        // The reason of a failure comes with the end.
        if writer.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    writer.finish().map(drop)
}
