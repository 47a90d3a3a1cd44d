//! What a process knows of the models it calls: how they do, and how many requests are under way.

use crate::pg::call::{self, Endpoint};
use crate::pg::catalog::StoredModel;
use crate::pg::settings::Work;
use crate::worker::state::Shown;
use autoembed_core::Failure;
use autoembed_core::circuit::{Circuit, Config, Gate, Ticket};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// One model.
pub struct Known {
    /// Whether it may be asked now.
    pub circuit: Circuit,
    /// Requests under way.
    pub in_flight: usize,
    /// What was last written down of it.
    pub shown: Shown,
}

/// All models that this process has called.
pub struct Models {
    started: Instant,
    known: HashMap<String, Known>,
}

impl Models {
    /// None yet.
    pub fn new() -> Models {
        Models { started: Instant::now(), known: HashMap::new() }
    }

    /// The clock of the circuits.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is known of `model`.
    pub fn get(&mut self, model: &str, work: &Work) -> &mut Known {
        self.known.entry(model.to_string()).or_insert_with(|| {
            let longest = work.retry_max.min(Duration::from_secs(60)).max(work.retry_base);
            Known {
                circuit: Circuit::new(Config { base: work.retry_base, max: longest, ..Config::default() }),
                in_flight: 0,
                shown: None,
            }
        })
    }

    /// Whether a request to `stored` may go out now, and with how many inputs at most.
    pub fn gate(&mut self, stored: &StoredModel, work: &Work) -> Gate {
        let now = self.now();
        let most = stored.max_concurrent_requests.unwrap_or(usize::MAX).min(work.max_concurrent_requests);
        let known = self.get(&stored.model.name, work);
        if known.in_flight >= most {
            return Gate::Wait(Duration::from_secs(60));
        }
        known.circuit.may_send(now)
    }

    /// Notes that a request of `inputs` texts goes out.
    pub fn sent(&mut self, model: &str, inputs: usize, work: &Work) -> Ticket {
        let now = self.now();
        let known = self.get(model, work);
        known.in_flight += 1;
        known.circuit.on_send(now, inputs)
    }

    /// Names of the models whose state is to be written down again, with it.
    pub fn changed(&mut self) -> Vec<(String, Shown)> {
        let now = self.now();
        let mut changed = Vec::new();
        for (name, known) in &mut self.known {
            let shown = crate::worker::state::shown(&known.circuit, now);
            if shown != known.shown {
                known.shown.clone_from(&shown);
                changed.push((name.clone(), shown));
            }
        }
        changed
    }

    /// How many models there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// Finds key and connection of a model.
pub fn endpoint(stored: &StoredModel) -> Result<Endpoint, Failure> {
    call::endpoint(stored)
}
