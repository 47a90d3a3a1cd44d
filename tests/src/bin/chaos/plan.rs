//! What will be done in a run, from its seed alone: the order of the actions and each one's details, not their timing.

use std::str::FromStr;
use std::time::Duration;

pub use autoembed_tests::Dice;

/// A family of actions, as named in `MIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Processes killed with -9, or ended.
    Kills,
    /// The whole server.
    Restarts,
    /// The embedding server.
    Api,
    /// Locks, old snapshots, leases that run out.
    Locks,
    /// Definitions changed, indexes built.
    Ddl,
    /// Tables vacuumed.
    Vacuum,
}

/// The families of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<Family>);

const FAMILIES: [(&str, Family); 6] = [
    ("kills", Family::Kills),
    ("restarts", Family::Restarts),
    ("api", Family::Api),
    ("locks", Family::Locks),
    ("ddl", Family::Ddl),
    ("vacuum", Family::Vacuum),
];

impl Mix {
    /// Everything.
    pub fn all() -> Mix {
        Mix(FAMILIES.iter().map(|(_, family)| *family).collect())
    }

    /// Whether the family is in it.
    pub fn has(&self, family: Family) -> bool {
        self.0.contains(&family)
    }

    /// Its names, as `MIX` takes them.
    pub fn names(&self) -> String {
        let names: Vec<&str> = FAMILIES.iter().filter(|(_, family)| self.has(*family)).map(|(name, _)| *name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Names separated by commas; `all` is everything, `none` the load alone.
    fn from_str(text: &str) -> Result<Mix, String> {
        match text {
            "" | "all" => return Ok(Mix::all()),
            "none" => return Ok(Mix(Vec::new())),
            _ => {}
        }
        let known = || FAMILIES.map(|(name, _)| name).join(", ");
        let family = |name: &str| {
            let found = FAMILIES.iter().find(|(of, _)| *of == name.trim()).map(|(_, family)| *family);
            found.ok_or_else(|| format!("MIX has no {name:?}; it takes {}, all or none", known()))
        };
        text.split(',').map(family).collect::<Result<_, _>>().map(Mix)
    }
}

/// One thing that is done to the server while the clients write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// kill -9 to the worker.
    KillWorker,
    /// kill -9 to the launcher.
    KillLauncher,
    /// kill -9 to the backend of a client.
    KillClient,
    /// kill -9 to a process of the server's own: checkpointer, WAL writer, ...
    KillHelper,
    /// SIGTERM to the worker.
    EndWorker,
    /// SIGTERM to the backend of a client.
    EndClient,
    /// Stop fast, start.
    RestartFast,
    /// Stop immediate, start.
    RestartImmediate,
    /// kill -9 to the postmaster, start.
    KillPostmaster,
    /// Nobody listens at the model's address for a while.
    ApiGone,
    /// Requests are held back for a while.
    ApiHolds,
    /// Status 500 and 503, connections that close.
    ApiFails,
    /// Status 429.
    ApiLimits,
    /// Vectors that are missing, double, not finite, zero.
    ApiLies,
    /// Answers that stop, drip, hang or are no JSON.
    ApiGarbles,
    /// The key is refused.
    ApiRefusesKey,
    /// A little of everything.
    ApiMixed,
    /// Every request is answered well.
    ApiWell,
    /// Rows locked by an open transaction.
    LockRows,
    /// A table locked against writers.
    LockTable,
    /// A transaction with an old snapshot.
    OldSnapshot,
    /// The worker sleeps past its lease while a session does its work.
    LeaseRunsOut,
    /// CREATE INDEX CONCURRENTLY, and dropped again.
    BuildIndex,
    /// REINDEX CONCURRENTLY of a table or of the queue.
    Reindex,
    /// A column added and dropped.
    AddColumn,
    /// A partition made and filled, another dropped.
    Partition,
    /// A table emptied.
    Truncate,
    /// `set_model()`: begun, or ended.
    ChangeModel,
    /// `pause()`, then `resume()`.
    PauseResume,
    /// `backfill(force => true)`.
    Backfill,
    /// VACUUM of the tables.
    VacuumTables,
    /// VACUUM of the queue.
    VacuumQueue,
    /// VACUUM FULL of the queue or of a table.
    VacuumFull,
}

/// Every action and its family.
pub const ACTIONS: [(Family, Action); 33] = [
    (Family::Kills, Action::KillWorker),
    (Family::Kills, Action::KillLauncher),
    (Family::Kills, Action::KillClient),
    (Family::Kills, Action::KillHelper),
    (Family::Kills, Action::EndWorker),
    (Family::Kills, Action::EndClient),
    (Family::Restarts, Action::RestartFast),
    (Family::Restarts, Action::RestartImmediate),
    (Family::Restarts, Action::KillPostmaster),
    (Family::Api, Action::ApiGone),
    (Family::Api, Action::ApiHolds),
    (Family::Api, Action::ApiFails),
    (Family::Api, Action::ApiLimits),
    (Family::Api, Action::ApiLies),
    (Family::Api, Action::ApiGarbles),
    (Family::Api, Action::ApiRefusesKey),
    (Family::Api, Action::ApiMixed),
    (Family::Api, Action::ApiWell),
    (Family::Locks, Action::LockRows),
    (Family::Locks, Action::LockTable),
    (Family::Locks, Action::OldSnapshot),
    (Family::Locks, Action::LeaseRunsOut),
    (Family::Ddl, Action::BuildIndex),
    (Family::Ddl, Action::Reindex),
    (Family::Ddl, Action::AddColumn),
    (Family::Ddl, Action::Partition),
    (Family::Ddl, Action::Truncate),
    (Family::Ddl, Action::ChangeModel),
    (Family::Ddl, Action::PauseResume),
    (Family::Ddl, Action::Backfill),
    (Family::Vacuum, Action::VacuumTables),
    (Family::Vacuum, Action::VacuumQueue),
    (Family::Vacuum, Action::VacuumFull),
];

/// One step: a pause, then an action with its own dice.
#[derive(Clone, Debug)]
pub struct Step {
    /// Before the action.
    pub pause: Duration,
    /// What is done; `None` where the mix is empty.
    pub action: Option<Action>,
    /// For the action's details.
    pub dice: Dice,
}

/// The endless list of steps: every action of the mix once in an order by chance, then all again in another.
pub struct Plan {
    seed: u64,
    mix: Mix,
    deck: Vec<Action>,
    dealt: u64,
    dice: Dice,
}

impl Plan {
    /// The plan of this seed and mix.
    pub fn new(seed: u64, mix: &Mix) -> Plan {
        Plan { seed, mix: mix.clone(), deck: Vec::new(), dealt: 0, dice: Dice::new(seed, 1) }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.deck.is_empty() {
            let mine = ACTIONS.iter().filter(|(family, _)| self.mix.has(*family));
            self.deck = mine.map(|(_, action)| *action).collect();
            self.dice.shuffle(&mut self.deck);
        }
        self.dealt += 1;
        let pause = self.dice.ms(50, 700);
        Some(Step { pause, action: self.deck.pop(), dice: Dice::new(self.seed, 1000 + self.dealt) })
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn actions(seed: u64, mix: &str, n: usize) -> Vec<Action> {
        let mix = mix.parse().unwrap_or_else(|e| panic!("{e}"));
        Plan::new(seed, &mix).take(n).filter_map(|step| step.action).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_plan() {
        assert_eq!(actions(7, "all", 200), actions(7, "all", 200));
        assert_ne!(actions(7, "all", 200), actions(8, "all", 200));
    }

    #[test]
    fn every_action_has_its_turn() {
        let first = actions(7, "all", ACTIONS.len());
        assert!(ACTIONS.iter().all(|(_, action)| first.contains(action)));
        let kills = actions(7, "kills", 6);
        assert!(kills.contains(&Action::EndClient) && !kills.contains(&Action::ApiGone), "{kills:?}");
        assert!(actions(7, "none", 10).is_empty());
    }

    #[test]
    fn an_unknown_family_is_an_error() {
        let error = "kills,earthquakes".parse::<Mix>().err().unwrap_or_default();
        assert!(error.contains("earthquakes") && error.contains("restarts"), "{error}");
        assert_eq!("all".parse::<Mix>().map(|mix| mix.names()), Ok("kills,restarts,api,locks,ddl,vacuum".to_owned()));
    }
}
