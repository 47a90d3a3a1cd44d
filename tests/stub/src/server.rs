//! The listener and its connections, a thread each.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::answer::Answerer;
use crate::http::Connection;
use crate::port::Port;
use crate::serve::Service;
use crate::state::State;
use crate::vectors::Source;

/// A running listener.
pub(crate) struct Server {
    port: Port,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    service: Service,
    /// A second handle of every open connection, to close them by.
    open: Mutex<HashMap<u64, TcpStream>>,
    closed: Condvar,
}

impl Server {
    pub(crate) fn start(state: Arc<State>, port: Option<Port>) -> io::Result<Self> {
        let wanted = port.as_ref().map_or(state.config.listen, Port::address);
        if !wanted.ip().is_loopback() {
            let reason = format!("{wanted} is not a loopback address; the stub must not be reachable from elsewhere");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let answerer = Answerer::new(Source::open(&state.config)?);
        let port = port.map_or_else(|| Port::hold(wanted), Ok)?;
        // The standard library sets SO_REUSEADDR, so this works beside the socket that keeps the port, and where connections of before
        // are being closed.
        let listener = TcpListener::bind(port.address())?;
        let shared =
            Arc::new(Shared { service: Service { state, answerer }, open: Mutex::default(), closed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("stub-listen".to_owned()).spawn(move || theirs.listen(&listener))?;
        Ok(Self { port, shared, listening: Mutex::new(Some(thread)) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    pub(crate) fn stop(&self) {
        self.shared.service.state.stop();
        let thread = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // The listener waits for a connection: this is its last one.
        let _ = TcpStream::connect_timeout(&self.address(), Duration::from_secs(5));
        let _ = thread.join();
        let open = self.shared.connections();
        for stream in open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let all_closed = |open: &mut HashMap<u64, TcpStream>| !open.is_empty();
        let _ = self.shared.closed.wait_timeout_while(open, Duration::from_secs(10), all_closed);
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for (number, stream) in (0..).zip(listener.incoming()) {
            if self.service.state.stopping() {
                return;
            }
            let Ok((stream, second)) = stream.and_then(|stream| stream.try_clone().map(|second| (stream, second)))
            else {
                // Most likely no file descriptors: wait for connections to end instead of spinning.
                self.service.state.pause(Some(Duration::from_millis(10)), || false);
                continue;
            };
            self.connections().insert(number, second);
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("stub-client".to_owned()).spawn(move || {
                let mut connection = Connection::new(stream);
                // A client that breaks off or talks nonsense ends its own connection and nothing else.
                let _ = shared.service.serve(&mut connection);
                shared.connections().remove(&number);
                shared.closed.notify_all();
            });
            if spawned.is_err() {
                self.connections().remove(&number);
            }
        }
    }
}
