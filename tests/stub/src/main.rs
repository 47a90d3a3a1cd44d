//! The stub as a program. `autoembed-stub --help` says how.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use autoembed_stub::{Script, Stub, StubConfig};

const USAGE: &str = "\
autoembed-stub: an embedding server on loopback that speaks the OpenAI and Ollama formats and plays faults

  --listen ADDRESS:PORT   where to listen, loopback only (127.0.0.1:0, a free port)
  --vectors KIND          builtin, hashed:N or constant:N (hashed:1536)
  --model-dir FOLDER      the built-in model's files (those of the repository it was built in)
  --latency-ms N          every answer takes at least so long (0)
  --requests-per-minute N the rest gets 429 (no limit)
  --key KEY               requests without this key get 401 (none needed)
  --script FILE           faults to play, as JSON; also POST /control/script
  --record                keep the texts of all requests

The first line printed is 'listening on http://ADDRESS:PORT'. GET /control/stats shows the counters.";

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
            "--listen" | "--vectors" | "--model-dir" | "--latency-ms" | "--requests-per-minute" | "--key" | "--script"
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
                config.requests_per_minute = Some(value.parse().map_err(|_| wrong("a number"))?);
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
