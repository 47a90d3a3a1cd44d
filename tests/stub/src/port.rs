//! A port that stays ours while nobody listens at it.
//!
//! A port that is free may be given to any program that asks for one: to the stub of another test, which is then called by those who still
//! look for this one. A socket that is bound and does not listen keeps the port: connections are refused, and no other program is given it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// How many ports a process keeps after their last use. Whoever called a stub that is gone, the worker of a server that is being stopped,
/// calls nobody else's while so many others come and go.
const KEPT: usize = 128;

/// Ports that nobody uses any more, the oldest first.
static RESTING: Mutex<VecDeque<Socket>> = Mutex::new(VecDeque::new());

/// A port of one address. Everybody who has a clone may listen there, one at a time.
#[derive(Clone, Debug)]
pub struct Port(Arc<Held>);

#[derive(Debug)]
struct Held {
    address: SocketAddr,
    socket: Option<Socket>,
}

impl Port {
    /// Takes the port of `wanted`, or a free one for port 0.
    ///
    /// # Errors
    /// Somebody listens there, or it cannot be had for another reason.
    pub fn hold(wanted: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
        // With this on both sockets another one may listen beside this one, which never does. A free port is chosen among those
        // that no socket at all is bound to.
        socket.set_reuse_address(true)?;
        socket.bind(&wanted.into())?;
        let address = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("it is no port"))?;
        Ok(Self(Arc::new(Held { address, socket: Some(socket) })))
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut resting = RESTING.lock().unwrap_or_else(PoisonError::into_inner);
        resting.extend(self.socket.take());
        if resting.len() > KEPT {
            resting.pop_front();
        }
    }
}
