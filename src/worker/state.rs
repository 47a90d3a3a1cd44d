//! What people see of models and vectorizers that cannot work at present.

use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::worker::log::{self, Subject};
use autoembed_core::circuit::{Reason, State};
use autoembed_core::governor::{Governor, Policy};
use autoembed_core::{Action, Failure};
use std::time::Duration;

/// What is wrong with a vectorizer's definition, not with what its table's owner lets run: the codes that [`crate::worker::gather::load`]
/// gives.
const DEFINITION: [&str; 7] =
    ["no_key", "model", "pgvector", "no_column", "is_partition", "no_trigger", "wrong_dimensions"];

/// Notes why a vectorizer's table cannot be read or written.
pub fn block_vectorizer(id: i32, code: &str, message: &str, hint: &str) {
    const SQL: &str = "INSERT INTO autoembed.vectorizer_state AS s (vectorizer_id, code, message, hint) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (vectorizer_id) DO UPDATE SET code = EXCLUDED.code, message = EXCLUDED.message, hint = EXCLUDED.hint, since = clock_timestamp() \
         WHERE s.code <> EXCLUDED.code OR s.message <> EXCLUDED.message";
    as_extension(|| spi::execute(SQL, args![id, code.to_string(), message.to_string(), hint.to_string()]));
    log::fails(&Subject::Vectorizer(id), code, || {
        format!("vectorizer {id} ({}) is blocked: {message}; {hint}", target_of(id))
    });
}

fn target_of(id: i32) -> String {
    const SQL: &str = "SELECT pg_catalog.concat(source, '.', embedding) FROM autoembed.vectorizer WHERE id = $1";
    let found = as_extension(|| spi::first(SQL, args![id], Mode::Read, |row| row.or_default::<String>(1)));
    found.unwrap_or_default()
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
    log::works(&Subject::Vectorizer(id));
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
    const SQL: &str = "DELETE FROM autoembed.vectorizer_state WHERE vectorizer_id = $1 AND code = ANY ($2)";
    let codes: Vec<String> = DEFINITION.map(str::to_string).to_vec();
    as_extension(|| spi::planned(SQL, args![id, codes], Mode::Write, |_| ()));
    if log::kind(&Subject::Vectorizer(id)).is_some_and(|kind| DEFINITION.contains(&kind.as_str())) {
        log::works(&Subject::Vectorizer(id));
    }
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

/// Tells the log of it.
pub fn tell(model: &str, shown: &Shown) {
    let subject = Subject::Model(model.to_string());
    match shown {
        Some((state, code, message, hint)) if *state != "paced" => {
            let what = if *state == "blocked" { "is blocked" } else { "is waited for" };
            log::has(&subject, &format!("{state} {code}"), || format!("model \"{model}\" {what}: {message}; {hint}"));
        }
        _ => log::works(&subject),
    }
}

/// Forgets what another worker wrote down; it is found out anew. The log has told of it already.
pub fn reset() {
    const SQL: &str = "WITH models AS (DELETE FROM autoembed.model_state RETURNING model, state || ' ' || code AS kind, state, since), \
         vectorizers AS (DELETE FROM autoembed.vectorizer_state RETURNING vectorizer_id, code, since) \
         SELECT model, NULL::int, kind, EXTRACT(epoch FROM since)::float8 FROM models WHERE state <> 'paced' \
         UNION ALL SELECT NULL, vectorizer_id, code, EXTRACT(epoch FROM since)::float8 FROM vectorizers";
    let told = as_extension(|| {
        spi::query(SQL, &[], Mode::Write, |row| {
            let subject = row.get(1).map_or_else(|| Subject::Vectorizer(row.or_default(2)), Subject::Model);
            (subject, row.or_default::<String>(3), row.or_default::<f64>(4))
        })
    });
    for (subject, kind, since) in told {
        log::inherit(subject, kind, Duration::try_from_secs_f64(since).unwrap_or_default());
    }
}
