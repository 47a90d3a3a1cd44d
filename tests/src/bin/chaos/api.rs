//! The embedding server of a run: its faults, its absences, and its figures over all its lives.

use super::texts::POISON;
use autoembed_stub::{Do, Fault, Script, Stub, StubConfig, Vectors};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// What was asked and answered so far.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Texts in them.
    pub inputs: u64,
    /// Answers by status; 0: none.
    pub by_status: BTreeMap<u16, u64>,
}

/// The embedding server, always at the same port.
pub struct Api {
    stub: Stub,
    dims: usize,
    before: Figures,
    script: Script,
}

impl Api {
    /// A server that answers well, but for poisoned texts.
    pub fn start(dims: usize) -> io::Result<Api> {
        let stub = Stub::start(config(dims))?;
        let api = Api { stub, dims, before: Figures::default(), script: poison() };
        api.stub.script(api.script.clone());
        Ok(api)
    }

    /// Base URL of the API.
    pub fn url(&self) -> String {
        self.stub.url()
    }

    /// Requests meet these faults by chance from now on.
    pub fn faults(&mut self, seed: u64, probability: f64, faults: Vec<Do>) {
        self.play(poison().random(seed, probability, faults));
    }

    /// The next `n` requests meet this fault, then none does.
    pub fn next(&mut self, n: u64, fault: Fault) {
        let mut script = Script::first(n, fault);
        script.rules.extend(poison().rules);
        self.play(script);
    }

    /// No faults any more, but poisoned texts are still refused.
    pub fn well(&mut self) {
        self.play(poison());
    }

    /// No text is refused any more.
    pub fn take_everything(&mut self) {
        self.play(Script::default());
    }

    fn play(&mut self, script: Script) {
        self.script = script;
        self.stub.script(self.script.clone());
    }

    /// Nobody listens at the port.
    pub fn gone(&mut self) {
        self.before = self.figures();
        self.stub.stop();
    }

    /// There again, with the faults of before.
    pub fn back(&mut self) -> io::Result<()> {
        self.stub = self.stub.again(config(self.dims))?;
        self.stub.script(self.script.clone());
        Ok(())
    }

    /// Holds requests back until [`Api::release`].
    pub fn hold(&self) {
        self.stub.hold();
    }

    /// Lets the held requests go on.
    pub fn release(&self) {
        self.stub.release();
    }

    /// Whether a request is being held, waiting for it so long.
    pub fn holds_one(&self, patience: Duration) -> bool {
        self.stub.wait_held(1, patience)
    }

    /// Of all lives so far.
    pub fn figures(&self) -> Figures {
        let stats = self.stub.stats();
        let mut figures = self.before.clone();
        figures.requests += stats.requests;
        figures.inputs += stats.inputs;
        for (status, n) in stats.by_status {
            *figures.by_status.entry(status).or_default() += n;
        }
        figures
    }
}

fn config(dims: usize) -> StubConfig {
    StubConfig { latency: Duration::from_millis(2), ..StubConfig::vectors(Vectors::Hashed(dims)) }
}

fn poison() -> Script {
    Script::always(Fault::Poison(POISON.to_owned()))
}

/// Answers that say the server is in trouble.
pub fn failures() -> Vec<Do> {
    vec![Fault::status(500).into(), Fault::status(503).into(), Fault::status(502).into(), Fault::Close.into()]
}

/// Answers that say it is asked too much.
pub fn limits() -> Vec<Do> {
    vec![Fault::status(429).header("retry-after", "1").into(), Fault::status(429).into(), Fault::status(529).into()]
}

/// Answers with wrong vectors.
pub fn lies() -> Vec<Do> {
    [Fault::Nan, Fault::Inf, Fault::Zero, Fault::Missing, Fault::Double, Fault::Extra].map(Do::from).to_vec()
}

/// Answers that cannot be read, and some that can, with patience.
pub fn garbles() -> Vec<Do> {
    vec![
        Fault::Truncate(200).into(),
        Fault::NotJson.into(),
        Fault::Html.into(),
        Fault::DeepJson.into(),
        Fault::Hang.into(),
        Fault::SlowBody { bytes: 2000, interval_ms: 5 }.into(),
        Fault::Shuffled.into(),
        Fault::NoIndex.into(),
        Do::delay(Duration::from_millis(1200)).then(Fault::Close),
    ]
}

/// Some of each.
pub fn mixed() -> Vec<Do> {
    [failures(), limits(), lies(), garbles()].concat()
}
