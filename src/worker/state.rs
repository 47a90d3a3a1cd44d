//! What people see of models and vectorizers that cannot work at present.

use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use autoembed_core::circuit::{Reason, State};
use autoembed_core::governor::{Governor, Policy};
use autoembed_core::{Action, Failure};
use std::time::Duration;

/// Notes why a vectorizer's table cannot be read or written.
pub fn block_vectorizer(id: i32, code: &str, message: &str, hint: &str) {
    const SQL: &str = "INSERT INTO autoembed.vectorizer_state AS s (vectorizer_id, code, message, hint) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (vectorizer_id) DO UPDATE SET code = EXCLUDED.code, message = EXCLUDED.message, hint = EXCLUDED.hint, since = clock_timestamp() \
         WHERE s.code <> EXCLUDED.code OR s.message <> EXCLUDED.message";
    let changed =
        as_extension(|| spi::execute(SQL, args![id, code.to_string(), message.to_string(), hint.to_string()]));
    if changed > 0 {
        pgrx::log!("autoembed: vectorizer {id} is blocked: {message}; {hint}");
    }
}

/// What is said of a vectorizer whose rows are embedded, but searched slowly.
const INDEX: &str = "index";
/// What is said of one whose table somebody has locked.
pub const LOCKED: &str = "locked";

/// Its table works again.
pub fn unblock_vectorizer(id: i32) {
    const ANY: &str = "SELECT EXISTS (SELECT FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 AND code <> $2)";
    const SQL: &str = "DELETE FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 AND code <> $2";
    let args = args![id, INDEX.to_string()];
    as_extension(|| {
        if spi::planned(ANY, args, Mode::Write, |row| row.or_default::<bool>(1)).first() == Some(&true) {
            spi::planned(SQL, args, Mode::Write, |_| ());
        }
    });
}

/// Its index could not be built, or is not there.
pub fn note_index(id: i32, message: &str) {
    let hint = "drop what is left of it and build it with CREATE INDEX CONCURRENTLY, or call autoembed.disable(), and autoembed.enable() with index => 'none'";
    block_vectorizer(id, INDEX, message, hint);
}

/// Its index is there, or not wanted any more.
pub fn forget_index(id: i32) {
    const SQL: &str = "DELETE FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 AND code = $2";
    as_extension(|| spi::planned(SQL, args![id, INDEX.to_string()], Mode::Write, |_| ()));
}

/// Its table has been locked for long.
pub fn note_lock(id: i32) {
    block_vectorizer(
        id,
        LOCKED,
        "waiting for a lock that another session has on the table",
        "end that session if it has been forgotten: see pg_locks",
    );
}

/// Whether anything is said of a vectorizer.
pub fn is_noted(id: i32) -> bool {
    const SQL: &str = "SELECT EXISTS (SELECT FROM autoembed.vectorizer_state WHERE vectorizer_id = $1)";
    as_extension(|| spi::planned(SQL, args![id], Mode::Write, |row| row.or_default::<bool>(1))).first() == Some(&true)
}

/// Why a vectorizer's table was refused to be read or written: the error's SQLSTATE and message.
pub fn refusal(id: i32) -> Option<(String, String)> {
    const SQL: &str = "SELECT code, message FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 AND code <> $2";
    let read = |row: &spi::Row| (row.or_default(1), row.or_default(2));
    as_extension(|| spi::planned(SQL, args![id, INDEX.to_string()], Mode::Write, read)).into_iter().next()
}

/// Its definition fits its table again.
pub fn unblock_definition(id: i32) {
    const SQL: &str = "DELETE FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 \
         AND code IN ('no_key', 'model', 'pgvector', 'no_column', 'is_partition', 'no_trigger', 'wrong_dimensions')";
    as_extension(|| spi::planned(SQL, args![id], Mode::Write, |_| ()));
}

/// What is written down of a model: nothing, or (state, code, message, hint).
pub type Shown = Option<(&'static str, String, String, String)>;

/// Pauses that are over sooner than this are not worth a word.
const SHORT: Duration = Duration::from_secs(2);

/// What is to be written down of a model.
pub fn shown(model: &str, governor: &Governor, policy: &Policy, paced: Option<Duration>, now: Duration) -> Shown {
    let of = |state, reason: &Reason| Some((state, reason.code.clone(), reason.message.clone(), reason.hint.clone()));
    if let Some(failure) = spent(model, governor, policy) {
        return of("blocked", &Reason::from(&failure));
    }
    match governor.circuit().state(now) {
        State::Blocked { reason, .. } => of("blocked", reason),
        State::Paused { reason, .. } => of("waiting", reason),
        State::Slowed { until, reason } if until.saturating_sub(now) > SHORT => of("waiting", reason),
        State::Slowed { .. } | State::Recovering { .. } | State::Open if paced.is_some_and(|at| at > now + SHORT) => {
            Some((
                "paced",
                "pace".to_string(),
                format!("waiting for the minute's next requests or tokens of model \"{model}\""),
                "It goes on by itself. The limits are the model's requests_per_minute and tokens_per_minute, or those that its server reports.".to_string(),
            ))
        }
        State::Slowed { .. } | State::Recovering { .. } | State::Open => None,
    }
}

/// That the day's budget is used up, where it is.
pub fn spent(model: &str, governor: &Governor, policy: &Policy) -> Option<Failure> {
    let (used, budget) = governor.spent(policy).zip(policy.daily_token_budget)?;
    Some(Failure::new(
        Action::Halt,
        "daily_token_budget",
        &format!("the daily token budget of model \"{model}\" leaves no room: {used} of {budget} tokens are used"),
        "it goes on at 00:00 UTC, or when a superuser raises daily_token_budget in autoembed.models",
    ))
}

/// Writes down the state of a model.
pub fn write(model: &str, shown: &Shown) {
    const SET: &str = "INSERT INTO autoembed.model_state (model, state, code, message, hint) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (model) DO UPDATE SET state = EXCLUDED.state, code = EXCLUDED.code, message = EXCLUDED.message, hint = EXCLUDED.hint, \
         since = CASE WHEN model_state.state = EXCLUDED.state THEN model_state.since ELSE clock_timestamp() END \
         WHERE (model_state.state, model_state.code, model_state.message, model_state.hint) \
         IS DISTINCT FROM (EXCLUDED.state, EXCLUDED.code, EXCLUDED.message, EXCLUDED.hint)";
    as_extension(|| match shown {
        Some((state, code, message, hint)) => {
            spi::execute(SET, args![model.to_string(), state.to_string(), code.clone(), message.clone(), hint.clone()]);
        }
        None => {
            spi::execute("DELETE FROM autoembed.model_state WHERE model = $1", args![model.to_string()]);
        }
    });
}

/// Forgets what another worker wrote down; it is found out anew.
pub fn reset() {
    as_extension(|| {
        spi::execute("DELETE FROM autoembed.model_state", &[]);
        spi::execute("DELETE FROM autoembed.vectorizer_state", &[]);
    });
}
