//! What a process knows of the models it calls: one governor each, and what was last written down of it.

use crate::pg::catalog::StoredModel;
use crate::pg::settings::Work;
use crate::pg::{keys, usage};
use crate::worker::state::{self, Shown};
use autoembed_core::circuit::{self, Config, State};
use autoembed_core::governor::{Gate, Governor, Policy, Ticket};
use autoembed_core::learned::Load;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What others have spent is looked up so often.
const BUDGET_AGE: Duration = Duration::from_secs(2);
/// What is shown of a model is written down again so often.
const SHOWN_AGE: Duration = Duration::from_secs(10);
/// How often the key of a blocked model is looked at: whether it was changed.
const KEY_AGE: Duration = Duration::from_secs(1);

/// One model.
pub struct Known {
    /// Decides whether it is called.
    pub governor: Governor,
    /// As of the last look.
    pub policy: Policy,
    /// It has brought vectors since a batch was last held back on its account.
    pub works: bool,
    /// Texts that it has refused for good since it last brought vectors.
    pub rejects: u32,
    /// It refused the fixed word as if that were a bad text: then rows take turns with it.
    pub word_refused: bool,
    words: u64,
    /// Its requests have to wait until then, for their minute.
    paced: Option<Duration>,
    shown: Shown,
    shown_at: Instant,
    /// How it is defined, to see that it was changed.
    definition: Definition,
    /// The key it was blocked with.
    key: Option<[u8; 32]>,
    key_at: Option<Instant>,
    budget_at: Option<Instant>,
}

/// All models that this process has called.
pub struct Models {
    started: Instant,
    known: HashMap<String, Known>,
}

/// What a model's owner and the settings allow.
pub fn policy(stored: &StoredModel, work: &Work) -> Policy {
    Policy {
        limits: stored.model.limits,
        per_minute: stored.per_minute,
        daily_token_budget: stored.daily_token_budget,
        max_concurrent: stored.max_concurrent_requests.unwrap_or(usize::MAX).min(work.max_concurrent_requests),
        timeout: stored.model.timeout,
        day: usage::today(),
    }
}

fn governor(work: &Work) -> Governor {
    let longest = work.retry_max.min(Duration::from_secs(60)).max(work.retry_base);
    Governor::new(Config { base: work.retry_base, max: longest, ..Config::default() })
}

impl Models {
    /// None yet.
    pub fn new() -> Models {
        Models { started: Instant::now(), known: HashMap::new() }
    }

    /// The clock of the governors.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is known of a model, as it is defined now.
    pub fn get(&mut self, stored: &StoredModel, work: &Work) -> &mut Known {
        let now = self.now();
        let policy = policy(stored, work);
        let known = self.known.entry(stored.model.name.clone()).or_insert_with(|| Known {
            governor: governor(work),
            policy,
            works: false,
            rejects: 0,
            word_refused: false,
            words: 0,
            paced: None,
            shown: None,
            shown_at: Instant::now(),
            definition: Definition::default(),
            key: None,
            key_at: None,
            budget_at: None,
        });
        let definition = definition_of(stored);
        if known.definition != definition {
            // At another place, or another model there: nothing that was learned holds.
            if known.definition.place != definition.place && known.governor.in_flight() == 0 {
                known.governor = governor(work);
            }
            known.governor.try_now(now);
            known.budget_at = None;
            known.definition = definition;
        }
        known.policy = policy;
        known
    }

    /// Whether a request to a model may be made up now, and how large.
    pub fn gate(&mut self, stored: &StoredModel, work: &Work) -> Gate {
        let now = self.now();
        let known = self.get(stored, work);
        known.look_at_key(stored, now);
        let policy = known.policy;
        let gate = known.governor.gate(now, &policy);
        known.paced = match gate {
            Gate::Wait(_) => known.governor.pace_wait(now, &policy).map(|wait| now + wait),
            Gate::Open(_) => None,
        };
        gate
    }

    /// How long a batch of this size has to wait though the gate is open.
    pub fn wait_for(&mut self, stored: &StoredModel, work: &Work, load: Load) -> Option<Duration> {
        let now = self.now();
        let known = self.get(stored, work);
        let policy = known.policy;
        known.governor.wait_for(now, &policy, load)
    }

    /// Whether the next request tells if the model works at all: only one text may go.
    pub fn is_probing(&mut self, stored: &StoredModel, work: &Work) -> bool {
        let now = self.now();
        let circuit = self.get(stored, work).governor.circuit();
        circuit.may_send(now) == circuit::Gate::Open { max_inputs: Some(1) }
    }

    /// Whether the fixed word is good for finding out if the model works; where it was refused itself, every other time.
    pub fn takes_words(&mut self, stored: &StoredModel, work: &Work) -> bool {
        let known = self.get(stored, work);
        known.words += 1;
        !known.word_refused || known.words.is_multiple_of(2)
    }

    /// Whether the model does not work, as far as is known.
    pub fn is_down(&mut self, stored: &StoredModel, work: &Work) -> bool {
        let now = self.now();
        let circuit = self.get(stored, work).governor.circuit();
        matches!(circuit.state(now), State::Paused { .. } | State::Blocked { .. })
    }

    /// Forgets models that are gone.
    pub fn keep_only(&mut self, names: &[String]) {
        self.known.retain(|name, known| known.governor.in_flight() > 0 || names.contains(name));
    }

    /// What is known of a model that has been called, however it is defined now.
    pub fn called(&mut self, name: &str) -> Option<&mut Known> {
        self.known.get_mut(name)
    }

    /// Notes that a request goes out.
    pub fn sent(&mut self, stored: &StoredModel, work: &Work, load: Load) -> Ticket {
        let now = self.now();
        let known = self.get(stored, work);
        let policy = known.policy;
        known.governor.on_send(now, &policy, load)
    }

    /// Whether it is time to look up what was spent today.
    pub fn wants_budget(&mut self, stored: &StoredModel, work: &Work) -> bool {
        stored.daily_token_budget.is_some()
            && self.get(stored, work).budget_at.is_none_or(|at| at.elapsed() > BUDGET_AGE)
    }

    /// What was spent today, by all.
    pub fn set_budget(&mut self, stored: &StoredModel, work: &Work, used: u64) {
        let known = self.get(stored, work);
        known.governor.set_used_today(known.policy.day, used);
        known.budget_at = Some(Instant::now());
    }

    /// Sessions have called models themselves.
    pub fn note_others(&mut self, entries: &[autoembed_core::usage::Entry]) {
        let now = self.now();
        for entry in entries {
            if let Some(known) = self.known.get_mut(&entry.model) {
                let policy = known.policy;
                known.governor.on_others(now, &policy, entry.usage.requests, entry.usage.tokens);
            }
        }
    }

    /// Settings were changed: what is blocked is tried at once.
    pub fn try_all_now(&mut self) {
        let now = self.now();
        for known in self.known.values_mut() {
            known.governor.try_now(now);
            known.paced = None;
        }
    }

    /// Whether something is written down of any of them, or is to be.
    pub fn are_any_shown(&self) -> bool {
        let (now, day) = (self.now(), usage::today());
        self.known.iter().any(|(name, known)| {
            let policy = Policy { day, ..known.policy };
            known.shown.is_some() || state::shown(name, &known.governor, &policy, known.paced, now).is_some()
        })
    }

    /// Names of the models whose state is to be written down again, with it: of those that are `wanted`; nothing of those that are not
    /// `waited_for`.
    pub fn changed(
        &mut self,
        wanted: impl Fn(&String) -> bool,
        waited_for: impl Fn(&String) -> bool,
    ) -> Vec<(String, Shown)> {
        let now = self.now();
        let mut changed = Vec::new();
        for (name, known) in self.known.iter_mut().filter(|(name, _)| wanted(name)) {
            known.policy.day = usage::today();
            let shown = state::shown(name, &known.governor, &known.policy, known.paced, now);
            let shown = shown.filter(|_| waited_for(name));
            // Now and then once more: somebody may have dropped the model and made it again.
            if shown != known.shown || (shown.is_some() && known.shown_at.elapsed() > SHOWN_AGE) {
                known.shown.clone_from(&shown);
                known.shown_at = Instant::now();
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

/// So many texts in a row are taken to be bad themselves; then it may be the model that takes none.
const MOST_REJECTS: u32 = 10;

impl Known {
    /// Whether a text that it refuses is to blame, as far as is known.
    pub fn is_fair(&self) -> bool {
        self.rejects < MOST_REJECTS
    }

    /// Nothing is written down of it that would keep it from being called.
    pub fn looks_well(&self) -> bool {
        self.shown.is_none()
    }

    /// A model that was blocked with one key is tried at once with another.
    fn look_at_key(&mut self, stored: &StoredModel, now: Duration) {
        if !matches!(self.governor.circuit().state(now), State::Blocked { .. }) {
            self.key_at = None;
            return;
        }
        if self.key_at.is_some_and(|at| at.elapsed() < KEY_AGE) {
            return;
        }
        let key = keys::fingerprint(stored);
        if self.key_at.is_some() && self.key != key {
            self.governor.try_now(now);
        }
        self.key = key;
        self.key_at = Some(Instant::now());
    }
}

/// What a change of a model is seen by.
#[derive(PartialEq, Default)]
struct Definition {
    place: String,
    rest: String,
}

fn definition_of(stored: &StoredModel) -> Definition {
    let model = &stored.model;
    let StoredModel { api_key_env, api_key_file, daily_token_budget, .. } = stored;
    Definition {
        place: format!("{} {} {:?}", model.provider, model.remote, model.url),
        rest: format!("{} {api_key_env:?} {api_key_file:?} {daily_token_budget:?} {:?}", model.options, model.limits),
    }
}
