//! A worker that keeps the rules of the module's text, a server that fails by a script, and a clock that costs nothing.

use std::collections::{HashSet, VecDeque};

use super::*;

const MAX_ATTEMPTS: u32 = 5;

#[derive(Clone, Default)]
struct Row {
    poison: bool,
    failed_before: Option<Duration>,
    failed_alone: bool,
    charged: u32,
    not_before: Duration,
    done: bool,
    dead: bool,
}

struct World {
    now: Duration,
    circuit: Circuit,
    rows: Vec<Row>,
    queue: VecDeque<usize>,
    /// When it ends, its ticket, its rows; no rows: a fixed word is tried.
    flying: Vec<(Duration, Ticket, Vec<usize>)>,
    requests: usize,
    batch: usize,
    concurrency: usize,
    latency: Duration,
    chance: u64,
    /// Rows neither done nor dead.
    left: usize,
}

impl World {
    fn new(rows: usize, poison: &[usize], concurrency: usize) -> Self {
        let mut all = vec![Row::default(); rows];
        poison.iter().for_each(|i| all[*i].poison = true);
        Self {
            now: S,
            circuit: circuit(),
            rows: all,
            queue: (0..rows).collect(),
            flying: Vec::new(),
            requests: 0,
            batch: 2048,
            concurrency,
            latency: S / 20,
            chance: 1,
            left: rows,
        }
    }

    /// Runs until every row is done or dead, or until `end`; `up`: whether the server works at that time.
    fn run(&mut self, end: Duration, up: impl Fn(Duration) -> bool) {
        while self.now < end && self.left > 0 {
            while self.flying.len() < self.concurrency && self.send() {}
            let landed = self.flying.iter().map(|(at, ..)| *at).min();
            let opens = match self.circuit.may_send(self.now) {
                Gate::Wait(wait) => Some(self.now + wait),
                Gate::Open { .. } => {
                    self.queue.iter().map(|row| self.rows[*row].not_before).filter(|at| *at > self.now).min()
                }
            };
            self.now = landed.into_iter().chain(opens).min().expect("something happens");
            let arrived: Vec<_> = self.flying.extract_if(.., |(at, ..)| *at <= self.now).collect();
            for (_, ticket, rows) in arrived {
                self.land(ticket, rows, up(self.now));
            }
        }
    }

    fn send(&mut self) -> bool {
        let Gate::Open { max_inputs } = self.circuit.may_send(self.now) else {
            return false;
        };
        let probe = matches!(self.circuit.state(self.now), State::Paused { .. } | State::Blocked { .. });
        let ready = |row: &&usize| self.rows[**row].not_before <= self.now;
        let Some(&first) = self.queue.iter().find(ready) else {
            return false;
        };
        let mut rows = Vec::new();
        if probe {
            // Another than the one that failed alone, if there is any; else a fixed word.
            rows.extend(self.queue.iter().filter(ready).find(|row| !self.rows[**row].failed_alone));
        } else if self.rows[first].charged > 0 {
            rows.push(first);
        } else {
            let healthy = self.queue.iter().filter(ready).filter(|row| self.rows[**row].charged == 0);
            rows.extend(healthy.take(max_inputs.unwrap_or(self.batch).min(self.batch)));
        }
        let taken: HashSet<usize> = rows.iter().copied().collect();
        self.queue.retain(|row| !taken.contains(row));
        let ticket = self.circuit.on_send(self.now, rows.len().max(1));
        self.flying.push((self.now + self.latency, ticket, rows));
        self.requests += 1;
        true
    }

    fn land(&mut self, ticket: Ticket, rows: Vec<usize>, up: bool) {
        if up && !rows.iter().any(|row| self.rows[*row].poison) {
            self.circuit.on_success(self.now, ticket);
            rows.iter().for_each(|row| self.rows[*row].done = true);
            self.left -= rows.len();
            return;
        }
        let failed_before = if let [row] = rows[..] { self.rows[row].failed_before } else { None };
        let jitter = self.jitter();
        let verdict = self.circuit.on_failure(self.now, ticket, &retry(), failed_before, jitter);
        for row in &rows {
            self.rows[*row].failed_before = Some(self.now);
        }
        if let [row] = rows[..] {
            let state = &mut self.rows[row];
            state.failed_alone = true;
            if verdict.charge {
                state.charged += 1;
                state.not_before = self.now + backoff(state.charged - 1, S, 60 * S, 1.0);
                state.dead = state.charged >= MAX_ATTEMPTS;
                self.left -= usize::from(state.dead);
            }
            if !state.dead {
                self.queue.push_back(row);
            }
        } else {
            assert!(!verdict.charge);
            rows.iter().rev().for_each(|row| self.queue.push_front(*row));
        }
    }

    /// The same every time, and all over 0 to 1 (Knuth's multiplier).
    fn jitter(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from((self.chance >> 40) as u32) / f64::from(1u32 << 24)
    }

    fn charged(&self) -> u32 {
        self.rows.iter().map(|row| row.charged).sum()
    }
}

#[test]
fn two_hours_of_outage_cost_no_attempt() {
    for concurrency in [1, 4] {
        for rows in [1, 7, 10_000] {
            let mut world = World::new(rows, &[], concurrency);
            let (down, back) = (S + S / 100, S + 7200 * S);
            world.run(20_000 * S, |now| now < down || now > back);
            assert!(world.rows.iter().all(|row| row.done), "{rows} rows");
            assert_eq!(world.charged(), 0);
            assert!(world.now < back + 62 * S, "resumed at {:?}", world.now);
            assert!(world.requests < 7200 / 30 + 20, "{} requests", world.requests);
        }
    }
}

#[test]
fn a_server_that_comes_and_goes_kills_no_row() {
    for concurrency in [1, 4] {
        for period in [3, 10, 60] {
            let mut world = World::new(20_000, &[], concurrency);
            world.batch = 64;
            // Up for a tenth of the time.
            world.run(100_000 * S, |now| now.as_secs() % period < period.div_ceil(10));
            assert!(world.rows.iter().all(|row| row.done), "period {period}");
            eprintln!("{period} {} {:?} {}", world.charged(), world.now, world.requests);
            assert!(world.rows.iter().all(|row| row.charged <= 1), "period {period}");
        }
    }
}

#[test]
fn a_poison_row_is_isolated_while_all_the_others_get_through() {
    for concurrency in [1, 4] {
        for rows in [2, 128, 2048, 10_000] {
            for poison in [0, 1, rows / 2, rows - 1] {
                let mut world = World::new(rows, &[poison], concurrency);
                world.run(3600 * S, |_| true);
                let text = format!(
                    "row {poison} of {rows}, {concurrency} at once: {} requests, {:?}",
                    world.requests, world.now
                );
                assert!(
                    world.rows.iter().enumerate().all(|(i, row)| if i == poison { row.dead } else { row.done }),
                    "{text}"
                );
                assert_eq!(world.charged(), MAX_ATTEMPTS, "{text}");
                assert!(world.requests <= 70, "{text}");
                assert!(world.now < 120 * S, "{text}");
            }
        }
    }
}

#[test]
fn several_poison_rows_are_isolated_too() {
    let poison = [3, 4, 700, 701, 1999];
    let mut world = World::new(2048, &poison, 4);
    world.run(3600 * S, |_| true);
    assert!(world.rows.iter().enumerate().all(|(i, row)| row.dead == poison.contains(&i) && row.done != row.dead));
    assert!(world.requests <= 400, "{} requests", world.requests);
}

#[test]
fn a_poison_row_alone_in_the_world_comes_to_an_end() {
    let mut world = World::new(1, &[0], 4);
    world.run(3600 * S, |_| true);
    assert!(world.rows[0].dead);
    assert!(world.requests < 30, "{} requests", world.requests);
}

#[test]
fn a_poison_row_survives_an_outage_and_dies_of_itself() {
    let mut world = World::new(500, &[100], 4);
    world.run(20_000 * S, |now| now > 7200 * S);
    assert!(world.rows[100].dead);
    assert_eq!(world.charged(), MAX_ATTEMPTS);
    assert!(world.now > 7200 * S);
}
