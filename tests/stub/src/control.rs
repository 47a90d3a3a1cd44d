//! Steering a stub from outside, by HTTP: for programs that start the binary.

use serde::Serialize;
use serde_json::json;

use crate::http::{Request, Response};
use crate::state::State;
use crate::{Limits, Script};

/// Answers a request below `/control/`.
pub(crate) fn handle(state: &State, request: &Request) -> Response {
    let done = || Response::json(200, r#"{"ok":true}"#);
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/control/script") => match Script::from_json(&String::from_utf8_lossy(&request.body)) {
            Ok(script) => {
                state.script(script);
                done()
            }
            Err(error) => Response::json(400, json!({"error": error}).to_string()),
        },
        ("POST", "/control/limits") => match Limits::from_json(&String::from_utf8_lossy(&request.body)) {
            Ok(limits) => {
                state.limits(limits);
                done()
            }
            Err(error) => Response::json(400, json!({"error": error}).to_string()),
        },
        ("POST", "/control/clear") => {
            state.script(Script::default());
            done()
        }
        ("POST", "/control/hold") => {
            state.hold(true);
            done()
        }
        ("POST", "/control/release") => {
            state.hold(false);
            done()
        }
        ("POST", "/control/reset") => {
            state.reset();
            done()
        }
        ("GET", "/control/stats") => written(&state.stats()),
        ("GET", "/control/requests") => written(&state.records()),
        _ => Response::json(404, r#"{"error":"there is no such control"}"#),
    }
}

fn written(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => Response::json(200, body),
        Err(error) => Response::json(500, json!({"error": error.to_string()}).to_string()),
    }
}
