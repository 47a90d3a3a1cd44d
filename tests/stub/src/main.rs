//! The stub as a program. `autoembed-stub --help` says how.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use autoembed_stub::{Limits, Script, Stub, StubConfig};

const USAGE: &str = "\
autoembed-stub: an embedding server on loopback that speaks the formats of all providers and plays faults

  --listen ADDRESS:PORT   where to listen, loopback only (127.0.0.1:0, a free port)
  --vectors KIND          builtin, hashed:N or constant:N (hashed:1536)
  --model-dir FOLDER      the built-in model's files (those of the repository it was built in)
  --latency-ms N          every answer takes at least so long (0)
  --requests-per-minute N evenly; the rest gets 429 (no limit)
  --limits FILE           all limits there are, as JSON, in place of the option above; also POST /control/limits
  --key KEY               requests without this key are refused (none needed)
  --script FILE           faults to play, as JSON; also POST /control/script
  --record                keep the texts of all requests

The first line printed is 'listening on http://ADDRESS:PORT'. Base URLs for clients, after that address:
  openai /v1, azure /azure, ollama and tei and cohere and gemini nothing, voyage /voyage/v1, jina /jina/v1,
  mistral /mistral; or the name of the format for any of them, as in /cohere/v2/embed.

POST /control/script     faults: {\"rules\": [{\"when\": {\"nth\": [2, 4]}, \"do\": {\"fault\": \"close\"}}]}
POST /control/clear      no faults any more
POST /control/limits     {\"requests_per_window\": 3, \"tokens_per_window\": 9000, \"window_ms\": 60000, \"pace\": \"sliding\" or
                         \"even\", \"count_inputs\": false, \"tokens_per_request\": 300000, \"tokens_per_input\": 8192,
                         \"inputs_per_request\": 96, \"quota_tokens\": 50000, \"quota_ms\": 86400000, \"retry_after\":
                         \"seconds\", \"date\", \"millis\" or \"none\", \"headers\": true, \"capacity\": {\"at_once\": 4,
                         \"latency_ms\": 20, \"beyond\": \"slower\" or {\"status\": 503}}}; {} is none
POST /control/hold       hold every request back; POST /control/release lets them go on
POST /control/reset      counters to zero, records away
GET  /control/stats      the counters
GET  /control/requests   what was asked: format, model, kind, texts (with --record), tokens, status ...

A token is 4 bytes begun.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autoembed-stub: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let Some(config) = configure(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    let stub = Stub::start(config).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", stub.base()).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    // SIGTERM and SIGINT keep their default, which ends the process at once.
    loop {
        std::thread::park();
    }
}

/// The configuration that the arguments ask for; `None` if they ask for help.
fn configure(mut arguments: impl Iterator<Item = String>) -> Result<Option<StubConfig>, String> {
    let mut config = StubConfig::default();
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        if name == "--record" {
            config.record = true;
            continue;
        }
        let known = matches!(
            name.as_str(),
            "--listen"
                | "--vectors"
                | "--model-dir"
                | "--latency-ms"
                | "--requests-per-minute"
                | "--limits"
                | "--key"
                | "--script"
        );
        if !known {
            return Err(format!("there is no option {name}; see --help"));
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let wrong = |what: &str| format!("{name} takes {what}, not \"{value}\"");
        match name.as_str() {
            "--listen" => config.listen = value.parse().map_err(|_| wrong("an address and a port"))?,
            "--vectors" => config.vectors = value.parse()?,
            "--model-dir" => config.model_dir = value.into(),
            "--latency-ms" => config.latency = Duration::from_millis(value.parse().map_err(|_| wrong("milliseconds"))?),
            "--requests-per-minute" => {
                config.limits = Limits::even_requests(value.parse().map_err(|_| wrong("a number"))?);
            }
            "--limits" => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("limits \"{value}\": {error}"))?;
                config.limits = Limits::from_json(&text)?;
            }
            "--key" => config.key = Some(value),
            _ => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("script \"{value}\": {error}"))?;
                config.script = Script::from_json(&text)?;
            }
        }
    }
    Ok(Some(config))
}
