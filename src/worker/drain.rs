//! embed_pending(): the work of the background worker, in a session and its transaction.

use crate::pg::error::Result;
use crate::pg::ffi::{process, rights};
use crate::pg::{error, settings, vectorizers, wake, writer};
use crate::worker::change;
use crate::worker::engine::Engine;
use pgrx::prelude::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a model that does not answer, or that may not be asked yet, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Embeds waiting rows of the caller's vectorizers, at most `max_rows` of them; how many were embedded. A model that
/// does not answer is a WARNING: its rows stay queued.
///
/// # Errors
/// 22023 for a negative `max_rows`; as `vectorizers::own_all`.
pub fn embed_pending(source: Option<pg_sys::Oid>, max_rows: Option<i32>) -> Result<i64> {
    let room = match max_rows {
        Some(n) if n < 0 => {
            return Err(error::Error::argument(
                "max_rows is negative",
                "Give the most rows to embed, or NULL for all.",
            ));
        }
        n => n.map(|n| n as usize),
    };
    if rights::is_restricted() {
        return Err(error::Error::state(
            "embed_pending() cannot be called by code that runs while vectors are read or written",
            "Call it in a session, outside of triggers of enabled tables.",
        ));
    }
    writer::fire_at_once();
    let own = || vectorizers::own_all(source).map(|all| all.into_iter().map(|v| v.id).collect::<HashSet<i32>>());
    change::in_session(&own()?);
    let scope = own()?;
    wake::at_end();
    let work = settings::work();
    let mut engine = Engine::for_session(scope, room);
    let mut last_progress = Instant::now();
    let mut paced = None;
    loop {
        let before = engine.written;
        // The next request goes out before the next answer is written.
        let _ = engine.receive(&work);
        if engine.written > before {
            last_progress = Instant::now();
        }
        // In a session nothing is caught: errors are the caller's.
        let Ok(round) = engine.send(&work) else { break };
        if round.settled > 0 {
            last_progress = Instant::now();
        }
        if engine.in_flight() == 0 {
            if !round.backlog && !engine.holds_rows() && round.settled == 0 {
                break;
            }
            if engine.last_failure.is_some() && last_progress.elapsed() + round.rest.unwrap_or_default() > PATIENCE {
                break;
            }
        }
        if engine.in_flight() == 0
            && engine.last_failure.is_none()
            && let Some(rest) = round.rest.filter(|rest| *rest > PATIENCE)
        {
            paced = Some(rest);
            break;
        }
        let is_idle = round.sent + round.settled == 0 && !round.backlog;
        if !engine.has_answers() && (engine.in_flight() > 0 || round.rest.is_some() || is_idle) {
            let soon = Duration::from_millis(if engine.in_flight() > 0 { 1000 } else { 50 });
            process::wait_latch(round.rest.unwrap_or(soon).min(Duration::from_secs(1)));
        }
        if engine.is_halted() && engine.in_flight() == 0 {
            break;
        }
    }
    if engine.let_go().is_ok()
        && let Some((model, failure)) = engine.last_failure.take()
    {
        error::of_failure(&model, &failure).warn();
    }
    if let Some(rest) = paced {
        error::Error::state(
            format!("the next request may not go out for {} s, so not all rows are embedded", rest.as_secs()),
            "Call it again later. The limits are the models' requests_per_minute and tokens_per_minute, or those that their servers report.",
        )
        .warn();
    }
    Ok(engine.written as i64)
}
