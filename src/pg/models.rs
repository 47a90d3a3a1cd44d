//! Adding, removing and trying models.

use crate::pg::call;
use crate::pg::catalog::{self, StoredModel};
use crate::pg::embed;
use crate::pg::error::{Error, Result};
use crate::pg::ffi::rights::as_extension;
use crate::pg::ffi::snapshot;
use crate::pg::ffi::spi::{self, Arg, Mode, args};
use crate::pg::ffi::types::Json;
use crate::pg::interface;
use crate::pg::repair;
use autoembed_core::host::Refusal;
use autoembed_core::url::Url;
use autoembed_core::{InputKind, Model, Provider};
use pgrx::datum::Interval;

/// What create_model() was given.
pub struct Definition {
    /// Its name here.
    pub name: String,
    /// Its wire format.
    pub provider: String,
    /// Components of its vectors.
    pub dimensions: i32,
    /// Its name there.
    pub model: Option<String>,
    /// Base of its API.
    pub url: Option<String>,
    /// Environment variable with the key.
    pub api_key_env: Option<String>,
    /// File with the key.
    pub api_key_file: Option<String>,
    /// Limits, each NULL for the provider's own: inputs and tokens of a batch, tokens of an input, requests and tokens a
    /// minute, requests at once.
    pub limits: [Option<i32>; 6],
    /// Tokens a day.
    pub daily_token_budget: Option<i64>,
    /// Longest time for a request.
    pub timeout: Option<Interval>,
    /// Further options.
    pub options: Option<Json>,
}

/// Stores a model.
///
/// # Errors
/// 22023 for what cannot work, 42501 for a host that is not allowed, 42710 where the name is taken.
pub fn create(definition: Definition) -> Result<()> {
    interface::check()?;
    let provider: Provider = definition
        .provider
        .parse()
        .map_err(|e: autoembed_core::provider::UnknownProvider| Error::argument(e.to_string(), e.hint()))?;
    let remote = definition.model.clone().unwrap_or_else(|| definition.name.clone());
    let mut model = Model::new(&definition.name, provider, &remote, definition.dimensions.max(0) as usize);
    model.url = definition.url.clone();
    if let Some(options) = definition.options {
        model.read_options(&options.text()).map_err(|e| Error::argument(e.message, e.hint))?;
    }
    model.validate().map_err(|e| Error::argument(e.message, e.hint))?;
    check_host(&model)?;
    let headers = model.options.get("headers").and_then(|h| h.as_object());
    let is_key = |name: &str| {
        ["auth", "key", "token", "secret", "cookie"].iter().any(|part| name.to_ascii_lowercase().contains(part))
    };
    if let Some(name) = headers.and_then(|h| h.keys().find(|name| is_key(name))) {
        return Err(Error::argument(
            format!("the header \"{name}\" looks like a key, and options can be read by everybody"),
            "Put keys into a file or an environment variable of the server: api_key_file, api_key_env.",
        ));
    }
    let [inputs, tokens, input_tokens, requests_per_minute, tokens_per_minute, concurrent] = definition.limits;
    for (name, value) in [
        ("max_batch_inputs", inputs.map(i64::from)),
        ("max_batch_tokens", tokens.map(i64::from)),
        ("max_input_tokens", input_tokens.map(i64::from)),
        ("max_concurrent_requests", concurrent.map(i64::from)),
        ("requests_per_minute", requests_per_minute.map(i64::from)),
        ("tokens_per_minute", tokens_per_minute.map(i64::from)),
        ("daily_token_budget", definition.daily_token_budget),
    ] {
        if value.is_some_and(|n| n < 1) {
            return Err(Error::argument(
                format!("{name} must be at least 1"),
                "Leave it NULL where there is no limit, or for the provider's own.",
            ));
        }
    }
    const SECONDS: &str = "SELECT EXTRACT(epoch FROM $1)::float8";
    if let Some(timeout) = &definition.timeout {
        let seconds =
            as_extension(|| spi::first(SECONDS, &[Arg::new(*timeout)], Mode::Read, |row| row.get::<f64>(1)).flatten());
        if !seconds.is_some_and(|s| s > 0.0 && s <= 3600.0) {
            return Err(Error::argument(
                "timeout must be more than zero and at most one hour",
                "For instance timeout => '30 s'.",
            ));
        }
    }
    // A row that is inserted takes the place of a well-known one: it is looked for before.
    const SQL: &str = "INSERT INTO autoembed.models (name, provider, model, dimensions, url, api_key_env, api_key_file, \
         max_batch_inputs, max_batch_tokens, max_input_tokens, max_concurrent_requests, timeout, options, \
         requests_per_minute, tokens_per_minute, daily_token_budget) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, COALESCE($13, '{}'), $14, $15, $16 \
         WHERE NOT EXISTS (SELECT FROM autoembed.models WHERE name = $1) ON CONFLICT (name) DO NOTHING";
    let name = definition.name.clone();
    let inserted = as_extension(|| {
        spi::execute(
            SQL,
            &[
                Arg::new(definition.name),
                Arg::new(definition.provider),
                Arg::new::<String>(definition.model),
                Arg::new(definition.dimensions),
                Arg::new::<String>(definition.url),
                Arg::new::<String>(definition.api_key_env),
                Arg::new::<String>(definition.api_key_file),
                Arg::new::<i32>(inputs),
                Arg::new::<i32>(tokens),
                Arg::new::<i32>(input_tokens),
                Arg::new::<i32>(concurrent),
                Arg::new::<Interval>(definition.timeout),
                Json::optional(definition.options),
                Arg::new::<i32>(requests_per_minute),
                Arg::new::<i32>(tokens_per_minute),
                Arg::new::<i64>(definition.daily_token_budget),
            ],
        )
    });
    if inserted == 0 {
        return Err(Error::new(
            pgrx::PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("model \"{name}\" already exists"),
            "Choose another name, or remove it first with autoembed.drop_model().",
        ));
    }
    Ok(())
}

/// Whether requests to the model's host are allowed, as far as its name tells.
fn check_host(model: &Model) -> Result<()> {
    let Some(url) = model.base_url().and_then(|url| Url::parse(url).ok()) else {
        return Ok(());
    };
    let route = call::route().map_err(|failure| Error::state(failure.message, failure.hint))?;
    route.permits(&url).map_err(|refusal| Error::rights(refusal.to_string(), Refusal::HINT))
}

/// Removes a model.
///
/// # Errors
/// 42704 where there is none, 2BP01 where a vectorizer uses it.
pub fn drop(name: &str) -> Result<()> {
    catalog::model(name)?;
    // Before the look at who uses it: an enable() that is under way holds the row until it is committed.
    as_extension(|| {
        spi::execute("DELETE FROM autoembed.models WHERE name = $1", args![name.to_string()]);
        spi::execute("DELETE FROM autoembed.model_state WHERE model = $1", args![name.to_string()]);
    });
    const USERS: &str = "SELECT v.source::text FROM autoembed.vectorizer v JOIN pg_class c ON c.oid = v.source WHERE v.model = $1 LIMIT 1";
    // As others have committed it: this transaction may have begun before that enable().
    let user = snapshot::with_latest(false, || {
        as_extension(|| spi::first(USERS, args![name.to_string()], Mode::Read, |row| row.or_default::<String>(1)))
    });
    if let Some(table) = user {
        return Err(Error::new(
            pgrx::PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("model \"{name}\" is used by table {table}"),
            "End its vectorizer first with autoembed.disable().",
        ));
    }
    repair::gone();
    Ok(())
}

/// Calls a model once: (it answered, dimensions, milliseconds, error).
///
/// # Errors
/// 42704 where there is no such model.
pub fn test(name: &str) -> Result<(bool, Option<i32>, f32, Option<String>)> {
    let stored: StoredModel = catalog::model(name)?;
    let (called, took) =
        embed::call_now(&stored, InputKind::Document, vec!["a short text to try the model".to_string()]);
    let ms = took.as_secs_f32() * 1000.0;
    Ok(match called.result {
        Ok(answer) => (true, Some(answer.vectors.dimensions as i32), ms, None),
        Err(failure) => (false, None, ms, Some(format!("{}: {}; {}", failure.code, failure.message, failure.hint))),
    })
}
