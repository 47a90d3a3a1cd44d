//! The listener and its connections, a thread each.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::answer::Answerer;
use crate::fault::{gzip_bomb, spoilt};
use crate::http::{Connection, Request, Response};
use crate::state::{State, Ticket, Waited};
use crate::vectors::Source;
use crate::wire::{Ask, Refusal, Wire};
use crate::{Body, Do, Fault, Recorded};

/// Whether the connection lives on after a request.
type Goes = io::Result<bool>;

/// A running listener.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Arc<State>,
    answerer: Answerer,
    /// A second handle of every open connection, to close them by.
    open: Mutex<HashMap<u64, TcpStream>>,
    closed: Condvar,
}

impl Server {
    pub(crate) fn start(state: Arc<State>) -> io::Result<Self> {
        let wanted = state.config.listen;
        if !wanted.ip().is_loopback() {
            let reason = format!("{wanted} is not a loopback address; the stub must not be reachable from elsewhere");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let answerer = Answerer::new(Source::open(&state.config)?);
        // The standard library sets SO_REUSEADDR, so a port that was closed a moment ago can be had again.
        let listener = TcpListener::bind(wanted)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state, answerer, open: Mutex::default(), closed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("stub-listen".to_owned()).spawn(move || theirs.listen(&listener))?;
        Ok(Self { address, shared, listening: Mutex::new(Some(thread)) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stop(&self) {
        self.shared.state.stop();
        let thread = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // The listener waits for a connection: this is its last one.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
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
            if self.state.stopping() {
                return;
            }
            let Ok((stream, second)) = stream.and_then(|stream| stream.try_clone().map(|second| (stream, second)))
            else {
                // Most likely no file descriptors: wait for connections to end instead of spinning.
                self.state.pause(Some(Duration::from_millis(10)), || false);
                continue;
            };
            self.connections().insert(number, second);
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("stub-client".to_owned()).spawn(move || {
                let mut connection = Connection::new(stream);
                // A client that breaks off or talks nonsense ends its own connection and nothing else.
                let _ = shared.serve(&mut connection);
                shared.connections().remove(&number);
                shared.closed.notify_all();
            });
            if spawned.is_err() {
                self.connections().remove(&number);
            }
        }
    }

    fn serve(&self, connection: &mut Connection) -> io::Result<()> {
        connection.stream.set_nodelay(true)?;
        while let Some(request) = connection.read_request()? {
            if !self.handle(connection, &request)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn handle(&self, connection: &mut Connection, request: &Request) -> Goes {
        let path = request.path.as_str();
        if request.method == "GET" && path == "/health" {
            return send(connection, &Response::json(200, r#"{"status":"ok"}"#), request);
        }
        if path.starts_with("/control/") {
            return send(connection, &crate::control::handle(&self.state, request), request);
        }
        let wire = Wire::of_path(path);
        let ask = match wire {
            Some(wire) if request.method == "POST" => wire.read(&request.body),
            Some(_) => Err(refusal(405, "Only POST works here")),
            None => Err(refusal(404, "There is no such path")),
        };
        let none: &[String] = &[];
        let inputs = ask.as_ref().map_or(none, |ask| ask.inputs.as_slice());
        let record = Recorded {
            at: std::time::Instant::now(),
            path: path.to_owned(),
            model: ask.as_ref().map_or(String::new(), |ask| ask.model.clone()),
            count: inputs.len(),
            inputs: if self.state.config.record { inputs.to_vec() } else { Vec::new() },
            dimensions: ask.as_ref().map_or(None, |ask| ask.dimensions),
            status: 0,
            authorization: request.authorization.is_some(),
        };
        let ticket = self.state.begin(record, inputs);
        match ask {
            Ok(ask) => self.embed(connection, request, &ask, &ticket),
            Err(refusal) => {
                let response = wire.unwrap_or(Wire::OpenAi).refuse(&refusal);
                self.counted(connection, request, &ticket, &response)
            }
        }
    }

    /// One embedding request: the gate, the delays, the limits, the fault, the answer.
    fn embed(&self, connection: &mut Connection, request: &Request, ask: &Ask, ticket: &Ticket) -> Goes {
        let what = ticket.verdict.as_ref().map_or(&NOTHING, |verdict| &verdict.what);
        let gone = || Connection::client_has_gone(&connection.stream);
        let delay = self.state.config.latency + Duration::from_millis(what.delay_ms);
        let mut waited = self.state.pass_gate(gone);
        if waited == Waited::Done && delay > Duration::ZERO {
            waited = self.state.pause(Some(delay), gone);
        }
        if waited == Waited::Pointless {
            return self.unanswered(ticket);
        }
        if let Some(response) = self.limits(request, ask.wire) {
            return self.counted(connection, request, ticket, &response);
        }
        match &what.fault {
            Some(Fault::Hang) => {
                self.state.pause(None, gone);
                self.unanswered(ticket)
            }
            Some(Fault::Close) => self.unanswered(ticket),
            Some(Fault::Endless) => self.endless(connection, ticket),
            Some(Fault::Truncate(bytes)) => {
                let response = self.answer(ask, ticket);
                self.state.finish(ticket, response.status, *bytes);
                connection.stream.write_all(&response.head(Some(response.body.len()), true))?;
                connection.stream.write_all(response.body.get(..*bytes).unwrap_or(&response.body))?;
                Ok(false)
            }
            Some(Fault::SlowBody { bytes, interval_ms }) => {
                let response = self.answer(ask, ticket);
                let result = self.drip(connection, &response, *bytes, Duration::from_millis(*interval_ms));
                self.state.finish(ticket, response.status, response.body.len());
                result.map(|()| request.keep_alive)
            }
            fault => {
                let other = fault.as_ref().and_then(|fault| whole(fault, ask));
                let response = other.unwrap_or_else(|| self.answer(ask, ticket));
                self.counted(connection, request, ticket, &response)
            }
        }
    }

    /// Key and rate.
    fn limits(&self, request: &Request, wire: Wire) -> Option<Response> {
        if let Some(key) = &self.state.config.key
            && request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) != Some(key)
        {
            return Some(wire.refuse(&refusal(401, "")));
        }
        let wait = self.state.take_rate().err()?;
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        Some(wire.refuse(&Refusal::rate_limit("")).header("retry-after", format!("{seconds}")))
    }

    /// The good answer, with a fault of its items or its size if the script has one.
    fn answer(&self, ask: &Ask, ticket: &Ticket) -> Response {
        let fault = ticket.verdict.as_ref().and_then(|verdict| verdict.what.fault.as_ref());
        let marked = ticket.verdict.as_ref().and_then(|verdict| verdict.marked.as_deref());
        let dims = match (fault, self.answerer.source.dimensions_for(ask.dimensions)) {
            (Some(Fault::WrongDimensions(dims)), _) => *dims,
            (_, Ok(dims)) => dims,
            (_, Err(most)) => {
                let message = format!("This model has no more than {most} dimensions");
                return ask.wire.refuse(&Refusal::bad(message, None));
            }
        };
        let body = self.answerer.body(ask, &spoilt(fault, marked, &ask.inputs), dims);
        let label = if fault == Some(&Fault::WrongContentType) { "text/plain" } else { "application/json" };
        Response::json(200, body).labelled(label)
    }

    fn counted(&self, connection: &mut Connection, request: &Request, ticket: &Ticket, response: &Response) -> Goes {
        self.state.finish(ticket, response.status, response.body.len());
        send(connection, response, request)
    }

    fn unanswered(&self, ticket: &Ticket) -> Goes {
        self.state.finish(ticket, 0, 0);
        Ok(false)
    }

    fn drip(&self, connection: &mut Connection, response: &Response, bytes: usize, every: Duration) -> io::Result<()> {
        connection.stream.write_all(&response.head(Some(response.body.len()), true))?;
        for piece in response.body.chunks(bytes.max(1)) {
            connection.stream.write_all(piece)?;
            if self.state.pause(Some(every), || false) == Waited::Pointless {
                break;
            }
        }
        Ok(())
    }

    /// Valid chunks of an array that never closes, until the client has had enough.
    fn endless(&self, connection: &mut Connection, ticket: &Ticket) -> Goes {
        let head = Response::json(200, Vec::new()).head(None, true);
        let piece = format!("8000\r\n{}\r\n", "0.1,".repeat(0x2000));
        let mut sent = 0;
        let mut result = connection.stream.write_all(&head);
        if result.is_ok() {
            result = connection.stream.write_all(b"1e\r\n{\"object\":\"list\",\"data\":[[0,0,\r\n");
        }
        while result.is_ok() && !self.state.stopping() {
            result = connection.stream.write_all(piece.as_bytes());
            sent += piece.len();
        }
        self.state.finish(ticket, 200, sent);
        Ok(false)
    }
}

const NOTHING: Do = Do { delay_ms: 0, fault: None };

fn send(connection: &mut Connection, response: &Response, request: &Request) -> Goes {
    connection.send(response, request.keep_alive)?;
    Ok(request.keep_alive)
}

fn refusal(status: u16, message: &str) -> Refusal {
    Refusal::of(status, &Body::Auto, message)
}

/// The faults that replace the whole answer and keep to HTTP.
fn whole(fault: &Fault, ask: &Ask) -> Option<Response> {
    Some(match fault {
        Fault::Status { code, body, headers } => {
            let mut response = match body {
                Body::Empty => Response::json(*code, Vec::new()),
                Body::Raw(text) if text.starts_with('{') => Response::json(*code, text.as_bytes()),
                Body::Raw(text) => Response::json(*code, text.as_bytes()).labelled("text/plain"),
                kind => ask.wire.refuse(&Refusal::of(*code, kind, "")),
            };
            response.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            response
        }
        Fault::Redirect(to) => {
            let own = match ask.wire {
                Wire::OpenAi => "/v1/embeddings",
                Wire::Ollama => "/api/embed",
            };
            Response::json(302, Vec::new()).header("location", to.as_deref().unwrap_or(own))
        }
        Fault::Html => {
            Response::json(200, "<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>").labelled("text/html")
        }
        Fault::NotJson => Response::json(200, "this is not json"),
        Fault::DeepJson => Response::json(200, "[".repeat(200_000) + &"]".repeat(200_000)),
        Fault::GzipBomb(mebibytes) => Response::json(200, gzip_bomb(*mebibytes)).header("content-encoding", "gzip"),
        Fault::TooManyInputs(most) => {
            let message = format!("{} inputs are more than {most}", ask.inputs.len());
            ask.wire.refuse(&Refusal::bad(message, None))
        }
        Fault::Poison(_) => ask.wire.refuse(&refusal(400, "")),
        Fault::ServerErrorOn(_) => ask.wire.refuse(&refusal(500, "")),
        _ => return None,
    })
}
