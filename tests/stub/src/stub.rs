//! The handle of a running stub.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::server::Server;
use crate::state::State;
use crate::{Format, Limits, Recorded, Script, Stats, StubConfig};

/// A running embedding server. Dropping it stops it.
pub struct Stub {
    state: Arc<State>,
    server: Server,
}

impl Stub {
    /// Starts a server; it listens when this returns.
    ///
    /// # Errors
    /// The address is not on loopback or is taken, or the model's files cannot be opened.
    pub fn start(config: StubConfig) -> io::Result<Self> {
        let state = Arc::new(State::new(config));
        let server = Server::start(Arc::clone(&state), None)?;
        Ok(Self { state, server })
    }

    /// After [`Stub::stop`]: another server at the same port, which nobody else had meanwhile. `config.listen` does not matter.
    ///
    /// # Errors
    /// This one listens still, or the model's files cannot be opened.
    pub fn again(&self, config: StubConfig) -> io::Result<Self> {
        let state = Arc::new(State::new(config));
        let server = Server::start(Arc::clone(&state), Some(self.server.port().clone()))?;
        Ok(Self { state, server })
    }

    /// Base URL for an OpenAI client: `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.base())
    }

    /// Base URL for a client of this format, as the provider's own client takes it.
    pub fn url_for(&self, format: Format) -> String {
        format!("{}{}", self.base(), format.base_path())
    }

    /// Base URL for an Ollama client: `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where it listens, the port alone.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Closes the listener and every connection, held requests included, and waits until all threads have ended. The port
    /// stays ours, and refuses connections: see [`Stub::again`]. Counters and records stay readable. A second call does nothing.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Plays this script from its beginning, in place of the one before.
    pub fn script(&self, script: Script) {
        self.state.script(script);
    }

    /// Plays no script any more. Held requests stay held, and limits stay.
    pub fn clear(&self) {
        self.state.script(Script::default());
    }

    /// Puts these limits in place of the ones before; nothing of them is used yet.
    pub fn limits(&self, limits: Limits) {
        self.state.limits(limits);
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The requests since the start or the last reset, in the order they came; at most the last 100,000.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.records()
    }

    /// Counters back to zero, records away. What is in flight stays counted as in flight.
    pub fn reset_stats(&self) {
        self.state.reset();
    }

    /// Holds back every embedding request from now on, after it was counted and before anything else happens to it.
    pub fn hold(&self) {
        self.state.hold(true);
    }

    /// Lets the held requests go on, and all later ones.
    pub fn release(&self) {
        self.state.hold(false);
    }

    /// Waits until at least `n` requests are being held; false if they were not within the time.
    pub fn wait_held(&self, n: u64, timeout: Duration) -> bool {
        self.state.wait(timeout, |stats| stats.held >= n)
    }

    /// Waits until at least `n` requests came since the start or the last reset; false if they did not within the time.
    pub fn wait_requests(&self, n: u64, timeout: Duration) -> bool {
        self.state.wait(timeout, |stats| stats.requests >= n)
    }

    /// Waits until the counters are as asked; false if they were not within the time.
    pub fn wait_stats(&self, timeout: Duration, enough: impl Fn(&Stats) -> bool) -> bool {
        self.state.wait(timeout, enough)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}
