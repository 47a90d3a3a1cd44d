//! The settings `autoembed.*`, one documented static each. Read in worker, search and api, and passed on as plain structs.

use crate::pg::ffi::settings::{Checked, Wrong, define_checked};
use autoembed_core::host::{AllowedHosts, HostsError};
use autoembed_http::{ConfigError, Proxy};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::ffi::{CStr, CString};
use std::time::Duration;

/// Whose turn a change gets.
#[derive(PostgresGucEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// At once.
    #[name = c"live"]
    Live,
    /// Behind every live change.
    #[name = c"backfill"]
    Backfill,
}

macro_rules! key_files {
    ($($provider:literal),*) => {
        /// The settings that name a file with a provider's key: provider, name, what it is.
        const KEY_FILES: [(&str, &CStr, &CStr); [$($provider),*].len()] = [$((
            $provider,
            c_str(concat!("autoembed.", $provider, "_api_key_file\0")),
            c_str(concat!("File on the server that holds the key for models of the provider ", $provider, ".\0")),
        )),*];
    };
}

key_files!("openai", "azure", "cohere", "voyage", "jina", "mistral", "gemini", "ollama", "tei");

/// What ends in its only NUL.
const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

static DEFAULT_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"builtin"));
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static API_KEY_FILES: [GucSetting<Option<CString>>; KEY_FILES.len()] =
    [const { GucSetting::<Option<CString>>::new(Some(c"")) }; KEY_FILES.len()];
static ALLOWED_HOSTS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static PROXY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static PROXY_PASSWORD_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_CONCURRENT_REQUESTS: GucSetting<i32> = GucSetting::<i32>::new(4);
static BATCH_DELAY: GucSetting<i32> = GucSetting::<i32>::new(10);
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1000);
static LEASE: GucSetting<i32> = GucSetting::<i32>::new(300);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(5);
static RETRY_BASE_DELAY: GucSetting<i32> = GucSetting::<i32>::new(1000);
static RETRY_MAX_DELAY: GucSetting<i32> = GucSetting::<i32>::new(300_000);
static LANE: GucSetting<Lane> = GucSetting::<Lane>::new(Lane::Live);
static QUERY_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1000);
static CACHE_TTL: GucSetting<i32> = GucSetting::<i32>::new(3600);
static REQUEST_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60);
static FAILED_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);

/// What governs the work on the queue.
#[derive(Debug, Clone)]
pub struct Work {
    /// Requests at once.
    pub max_concurrent_requests: usize,
    /// How long a batch that is not full waits for more rows.
    pub batch_delay: Duration,
    /// Longest time between two looks at the queue.
    pub poll_interval: Duration,
    /// How long a worker's claim on a job lasts.
    pub lease: Duration,
    /// Tries for one row.
    pub max_attempts: u32,
    /// First pause after an error.
    pub retry_base: Duration,
    /// Longest pause after an error.
    pub retry_max: Duration,
    /// How long the request log is kept.
    pub request_retention: Duration,
    /// How long failed jobs are kept.
    pub failed_retention: Duration,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<String>,
}

fn text(setting: &'static GucSetting<Option<CString>>) -> Option<String> {
    let value = setting.get()?.to_string_lossy().trim().to_string();
    (!value.is_empty()).then_some(value)
}

fn millis(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(setting.get().max(0) as u64)
}

fn seconds(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_secs(setting.get().max(0) as u64)
}

fn minutes(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_secs(60 * setting.get().max(0) as u64)
}

/// The present settings of the queue's work.
pub fn work() -> Work {
    Work {
        max_concurrent_requests: MAX_CONCURRENT_REQUESTS.get().max(1) as usize,
        batch_delay: millis(&BATCH_DELAY),
        poll_interval: millis(&POLL_INTERVAL),
        lease: seconds(&LEASE),
        max_attempts: MAX_ATTEMPTS.get().max(1) as u32,
        retry_base: millis(&RETRY_BASE_DELAY),
        retry_max: millis(&RETRY_MAX_DELAY),
        request_retention: minutes(&REQUEST_RETENTION),
        failed_retention: minutes(&FAILED_RETENTION),
        ca_file: text(&CA_FILE),
    }
}

/// The model of `embed()` and `enable()` where none is named.
pub fn default_model() -> String {
    text(&DEFAULT_MODEL).unwrap_or_else(|| "builtin".to_string())
}

/// Databases that the launcher serves; `None`: all.
pub fn databases() -> Option<Vec<String>> {
    text(&DATABASES).map(|list| list.split(',').map(|name| name.trim().to_string()).collect())
}

/// The file with the key for models of `provider`.
pub fn api_key_file(provider: &str) -> Option<String> {
    let place = KEY_FILES.iter().position(|(name, ..)| *name == provider)?;
    text(API_KEY_FILES.get(place)?)
}

/// Hosts that requests may go to.
///
/// # Errors
/// The list is wrong, and stood in the configuration file when the server was started: nothing is allowed then.
pub fn allowed_hosts() -> Result<AllowedHosts, HostsError> {
    AllowedHosts::parse(&text(&ALLOWED_HOSTS).unwrap_or_default())
}

/// What requests go through, without the password of [`proxy_password_file`].
///
/// # Errors
/// As for [`allowed_hosts`].
pub fn proxy() -> Result<Option<Proxy>, ConfigError> {
    text(&PROXY).map(|text| Proxy::parse(&text)).transpose()
}

/// The file with the proxy's password.
pub fn proxy_password_file() -> Option<String> {
    text(&PROXY_PASSWORD_FILE)
}

/// The longest time that `embed()` and searches wait for a model.
pub fn query_timeout() -> Duration {
    millis(&QUERY_TIMEOUT)
}

/// The lane of this session's changes.
pub fn lane() -> Lane {
    LANE.get()
}

/// Entries and age of the vectors that a session remembers.
pub fn cache() -> (usize, Duration) {
    (CACHE_SIZE.get().max(0) as usize, seconds(&CACHE_TTL))
}

fn wrong_hosts(list: &str) -> Option<Wrong> {
    let error = AllowedHosts::parse(list).err()?;
    Some(Wrong { detail: format!("{error}."), hint: error.hint().to_string(), message: None })
}

fn wrong_proxy(text: &str) -> Option<Wrong> {
    if text.trim().is_empty() {
        return None;
    }
    let error = Proxy::parse(text.trim()).err()?;
    let message = Some("invalid value for parameter \"autoembed.proxy\"".to_string());
    Some(Wrong { detail: format!("{error}."), hint: error.hint, message })
}

/// Defines the settings; once, when the library is loaded.
pub fn define() {
    use GucContext::{Sighup, Suset, Userset};
    let none = GucFlags::default();
    let hidden = GucFlags::SUPERUSER_ONLY;
    GucRegistry::define_string_guc(
        c"autoembed.default_model",
        c"Model used by enable() and embed() where none is named.",
        c"A name in autoembed.models.",
        &DEFAULT_MODEL,
        Userset,
        none,
    );
    GucRegistry::define_string_guc(
        c"autoembed.databases",
        c"Databases that get a worker, separated by commas.",
        c"Empty: every database that has the extension.",
        &DATABASES,
        Sighup,
        none,
    );
    for ((_, name, what), setting) in KEY_FILES.iter().zip(&API_KEY_FILES) {
        let long = c"Open to the server's user alone. A model's own api_key_file or api_key_env comes first; it is sent to the provider's own hosts only, but for ollama and tei.";
        GucRegistry::define_string_guc(name, what, long, setting, Sighup, hidden);
    }
    define_checked([
        Checked {
            name: c"autoembed.allowed_hosts",
            short: c"Hosts that requests may go to, separated by commas.",
            long: c"Names, *.example.com, addresses and ranges, each with :port or without. Empty: every host but those with link-local or metadata addresses.",
            setting: &ALLOWED_HOSTS,
            flags: none,
            check: wrong_hosts,
        },
        Checked {
            name: c"autoembed.proxy",
            short: c"HTTP proxy for requests, as http://user@host:port.",
            long: c"Empty: none. Requests to this machine never go through it.",
            setting: &PROXY,
            flags: hidden,
            check: wrong_proxy,
        },
    ]);
    GucRegistry::define_string_guc(
        c"autoembed.proxy_password_file",
        c"File on the server that holds the proxy's password.",
        c"Open to the server's user alone. A password in autoembed.proxy itself would be written to the server's log.",
        &PROXY_PASSWORD_FILE,
        Sighup,
        hidden,
    );
    GucRegistry::define_string_guc(
        c"autoembed.ca_file",
        c"File with the certificates to trust for HTTPS, in PEM form.",
        c"Empty: those of the operating system.",
        &CA_FILE,
        Suset,
        none,
    );
    let int = |name, short, long, setting, min, max, context, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, context, flags);
    };
    int(
        c"autoembed.max_concurrent_requests",
        c"Requests that a worker has under way at once.",
        c"A model's own max_concurrent_requests can only lower it.",
        &MAX_CONCURRENT_REQUESTS,
        1,
        256,
        Sighup,
        none,
    );
    int(
        c"autoembed.batch_delay",
        c"How long a batch that is not full waits for more rows.",
        c"Counted from its first row.",
        &BATCH_DELAY,
        0,
        60_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"autoembed.poll_interval",
        c"Longest time between two looks at the queue.",
        c"Commits wake the worker; this is for what cannot: prepared transactions, jobs whose time comes.",
        &POLL_INTERVAL,
        10,
        600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"autoembed.lease",
        c"How long a worker's claim on a job lasts.",
        c"Longer than the longest request with its retries; after it another may take the job over.",
        &LEASE,
        1,
        86_400,
        Sighup,
        GucFlags::UNIT_S,
    );
    int(
        c"autoembed.max_attempts",
        c"Tries for one row before it is kept as failed.",
        c"Outages, rate limits and wrong keys do not count.",
        &MAX_ATTEMPTS,
        1,
        1000,
        Sighup,
        none,
    );
    int(
        c"autoembed.retry_base_delay",
        c"First pause after an error.",
        c"Doubled with each further error.",
        &RETRY_BASE_DELAY,
        1,
        3_600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"autoembed.retry_max_delay",
        c"Longest pause after an error.",
        c"",
        &RETRY_MAX_DELAY,
        1,
        86_400_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"autoembed.lane",
        c"Whose turn this session's changes get: live, or backfill (behind all live changes).",
        c"For loaders.",
        &LANE,
        Userset,
        none,
    );
    int(
        c"autoembed.query_timeout",
        c"Longest time that embed() and searches wait for a model.",
        c"A model's own timeout can only shorten it.",
        &QUERY_TIMEOUT,
        1,
        3_600_000,
        Userset,
        GucFlags::UNIT_MS,
    );
    int(
        c"autoembed.cache_size",
        c"Vectors of search texts that a session remembers.",
        c"0: none.",
        &CACHE_SIZE,
        0,
        1_000_000,
        Userset,
        none,
    );
    int(
        c"autoembed.cache_ttl",
        c"How long a session remembers the vector of a search text.",
        c"",
        &CACHE_TTL,
        0,
        30 * 86_400,
        Userset,
        GucFlags::UNIT_S,
    );
    int(
        c"autoembed.request_retention",
        c"How long the view requests reaches back.",
        c"",
        &REQUEST_RETENTION,
        1,
        10 * 366 * 24 * 60,
        Sighup,
        GucFlags::UNIT_MIN,
    );
    int(
        c"autoembed.failed_retention",
        c"How long failed jobs are kept.",
        c"",
        &FAILED_RETENTION,
        1,
        10 * 366 * 24 * 60,
        Sighup,
        GucFlags::UNIT_MIN,
    );
    crate::pg::ffi::utility::reserve_setting_prefix();
}
