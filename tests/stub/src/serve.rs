//! One request after the other: the gate, the limits, the delays, the fault, the answer.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::answer::Answerer;
use crate::fault::{gzip_bomb, spoilt};
use crate::format::{Ask, Reason, Refusal, Route, route};
use crate::http::{Connection, Request, Response};
use crate::meter::{come_back, total};
use crate::state::{State, Ticket, Waited};
use crate::{Body, Do, Fault, Format, Recorded};

/// Whether the connection lives on after a request.
type Goes = io::Result<bool>;

/// What every connection answers with.
pub(crate) struct Service {
    pub(crate) state: Arc<State>,
    pub(crate) answerer: Answerer,
}

impl Service {
    /// Answers requests until the client has had enough or the connection is spoilt.
    pub(crate) fn serve(&self, connection: &mut Connection) -> io::Result<()> {
        connection.stream.set_nodelay(true)?;
        while let Some(request) = connection.read_request()? {
            if !self.handle(connection, &request)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn handle(&self, connection: &mut Connection, request: &Request) -> Goes {
        if request.method == "GET" && request.path == "/health" {
            return send(connection, &Response::json(200, r#"{"status":"ok"}"#), request);
        }
        if request.path.starts_with("/control/") {
            return send(connection, &crate::control::handle(&self.state, request), request);
        }
        let Route { format, place } = route(&request.path, &request.query);
        let found = place.is_some();
        let ask = match place {
            Some(place) if request.method == "POST" => format.wire().read(&request.body, &place),
            Some(_) => Err(Reason::Method),
            None => Err(Reason::Path),
        };
        let record = self.record(request, found.then_some(format), ask.as_ref().ok());
        let ticket = self.state.begin(record, ask.as_ref().map_or(&[], |ask| ask.inputs.as_slice()));
        // The key comes before all that is in the body, as it does with every provider.
        let locked = if found { self.locked(request, format) } else { None };
        match locked.map_or(ask, Err) {
            Ok(ask) => self.embed(connection, request, ask, &ticket),
            Err(reason) => self.refused(connection, request, &ticket, &Refusal::new(format, reason)),
        }
    }

    fn record(&self, request: &Request, format: Option<Format>, ask: Option<&Ask>) -> Recorded {
        let inputs = ask.map_or(&[][..], |ask| ask.inputs.as_slice());
        let keys = format.map_or(&[][..], |format| format.wire().key_headers());
        Recorded {
            at: Instant::now(),
            path: request.path.clone(),
            format,
            model: ask.map_or(String::new(), |ask| ask.model.clone()),
            kind: ask.and_then(|ask| ask.kind),
            count: inputs.len(),
            inputs: if self.state.config.record { inputs.to_vec() } else { Vec::new() },
            tokens: total(inputs),
            dimensions: ask.and_then(|ask| ask.dimensions),
            truncate: ask.is_some_and(|ask| ask.truncate),
            status: 0,
            authorization: request.header("authorization").is_some(),
            key_header: keys.iter().find(|key| key.key_of(request).is_some()).map(|key| key.name),
        }
    }

    /// What is wrong with the key, if one is asked for.
    fn locked(&self, request: &Request, format: Format) -> Option<Reason> {
        let wanted = self.state.config.key.as_deref()?;
        match format.wire().key_headers().iter().find_map(|header| header.key_of(request)) {
            Some(key) if key == wanted => None,
            Some(_) => Some(Reason::Key),
            None => Some(Reason::NoKey),
        }
    }

    fn embed(&self, connection: &mut Connection, request: &Request, mut ask: Ask, ticket: &Ticket) -> Goes {
        let what = ticket.verdict.as_ref().map_or(&NOTHING, |verdict| &verdict.what);
        let gone = || Connection::client_has_gone(&connection.stream);
        if self.state.pass_gate(gone) == Waited::Pointless {
            return self.unanswered(ticket);
        }
        let strain = match self.state.admit(&mut ask, ticket) {
            Ok(strain) => strain,
            Err(refusal) => return self.refused(connection, request, ticket, &refusal),
        };
        let delay = self.state.config.latency + strain + Duration::from_millis(what.delay_ms);
        if delay > Duration::ZERO && self.state.pause(Some(delay), gone) == Waited::Pointless {
            return self.unanswered(ticket);
        }
        match &what.fault {
            Some(Fault::Hang) => {
                self.state.pause(None, gone);
                self.unanswered(ticket)
            }
            Some(Fault::Close) => self.unanswered(ticket),
            Some(Fault::Endless) => self.endless(connection, &ask, ticket),
            Some(Fault::Truncate(bytes)) => {
                let response = self.answer(&ask, ticket);
                self.state.finish(ticket, response.status, *bytes);
                connection.stream.write_all(&response.head(Some(response.body.len()), true))?;
                connection.stream.write_all(response.body.get(..*bytes).unwrap_or(&response.body))?;
                Ok(false)
            }
            Some(Fault::SlowBody { bytes, interval_ms }) => {
                let response = self.answer(&ask, ticket);
                let result = self.drip(connection, &response, *bytes, Duration::from_millis(*interval_ms));
                self.state.finish(ticket, response.status, response.body.len());
                result.map(|()| request.keep_alive)
            }
            fault => {
                let other = fault.as_ref().and_then(|fault| whole(fault, &ask, &request.path));
                let response = other.unwrap_or_else(|| self.answer(&ask, ticket));
                self.counted(connection, request, ticket, &response)
            }
        }
    }

    /// The good answer, with a fault of its items or its size if the script has one.
    fn answer(&self, ask: &Ask, ticket: &Ticket) -> Response {
        let fault = ticket.verdict.as_ref().and_then(|verdict| verdict.what.fault.as_ref());
        let marked = ticket.verdict.as_ref().and_then(|verdict| verdict.marked.as_deref());
        let dims = match (fault, self.answerer.source.dimensions_for(ask.dimensions)) {
            (Some(Fault::WrongDimensions(dims)), _) => *dims,
            (_, Ok(dims)) => dims,
            (_, Err(most)) => {
                let asked = ask.dimensions.unwrap_or_default();
                return Refusal::new(ask.format, Reason::Dimensions { asked, most }).response();
            }
        };
        let items = spoilt(fault, marked, &ask.inputs, ask.format.wire().has_index());
        let label = if fault == Some(&Fault::WrongContentType) { "text/plain" } else { "application/json" };
        self.state.headed(Response::json(200, self.answerer.body(ask, &items, dims)).labelled(label))
    }

    fn refused(&self, connection: &mut Connection, request: &Request, ticket: &Ticket, refusal: &Refusal) -> Goes {
        let mut response = refusal.response();
        if response.status == 429 {
            response = self.state.headed(come_back(response, refusal.reason.wait(), self.state.retry_after()));
        }
        self.counted(connection, request, ticket, &response)
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

    /// The beginning of an answer and a vector that never ends, in valid chunks, until the client has had enough.
    fn endless(&self, connection: &mut Connection, ask: &Ask, ticket: &Ticket) -> Goes {
        let wire = ask.format.wire();
        let first = format!("{}{}[0,0,", wire.open(ask), wire.item(Some(0)).0);
        let piece = format!("8000\r\n{}\r\n", "0.1,".repeat(0x2000));
        let mut sent = 0;
        let mut result = connection.stream.write_all(&Response::json(200, Vec::new()).head(None, true));
        if result.is_ok() {
            result = connection.stream.write_all(format!("{:x}\r\n{first}\r\n", first.len()).as_bytes());
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

/// The faults that replace the whole answer and keep to HTTP.
fn whole(fault: &Fault, ask: &Ask, path: &str) -> Option<Response> {
    let refused = |reason| Refusal::new(ask.format, reason).response();
    Some(match fault {
        Fault::Status { code, body, headers } => {
            let mut response = match body {
                Body::Empty => Response::json(*code, Vec::new()),
                Body::Raw(text) if text.starts_with('{') => Response::json(*code, text.as_bytes()),
                Body::Raw(text) => Response::json(*code, text.as_bytes()).labelled("text/plain"),
                kind => Refusal::scripted(ask.format, *code, kind).response(),
            };
            response.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            response
        }
        Fault::Redirect(to) => Response::json(302, Vec::new()).header("location", to.as_deref().unwrap_or(path)),
        Fault::Html => {
            Response::json(200, "<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>").labelled("text/html")
        }
        Fault::NotJson => Response::json(200, "this is not json"),
        Fault::DeepJson => Response::json(200, "[".repeat(200_000) + &"]".repeat(200_000)),
        Fault::GzipBomb(mebibytes) => Response::json(200, gzip_bomb(*mebibytes)).header("content-encoding", "gzip"),
        Fault::TooManyInputs(most) => refused(Reason::TooManyInputs { most: *most, got: ask.inputs.len() }),
        Fault::Poison(_) => refused(Reason::BadInput),
        Fault::ServerErrorOn(_) => refused(Reason::Internal),
        _ => return None,
    })
}
