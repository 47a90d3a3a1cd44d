//! The embedding server: the one that serves all tests, those that a test starts for itself, and what they answer when
//! they are asked directly.

use autoembed_tests::eventually;
use autoembed_tests::wait::seconds;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Components of its vectors.
pub const DIMS: usize = 64;

/// Texts in one direct request.
const CHUNK: usize = 100;

/// Runs its arguments until the end of a pipe that only the test holds, so that no server outlives its test, however
/// that ends.
const KEEPER: &str = r#"
"$@" </dev/null &
exec >/dev/null
while read -r line; do :; done
kill -TERM "$!" 2>/dev/null
wait "$!"
"#;

/// The address of the server for all tests, which is asked for no key.
pub fn shared() -> String {
    address("AUTOEMBED_REAL_URL")
}

/// An address that `make real` gives.
pub fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run these tests by `make real`"))
}

/// A server of one test's own.
pub struct Server {
    keeper: Child,
    /// The base of its API.
    pub url: String,
}

impl Server {
    /// Starts one, on any port that is free, and waits until it answers. With `key` it asks for that.
    pub fn start(key: Option<&str>) -> Server {
        Server::launch(None, key).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Starts one where a former one was.
    pub fn start_at(url: &str) -> Server {
        let port = url.trim_end_matches("/v1").rsplit(':').next().expect("a port");
        eventually("the port is free again", seconds(10), || Server::launch(Some(port), None))
    }

    fn launch(port: Option<&str>, key: Option<&str>) -> Result<Server, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judge/real_server.sh");
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(script).args(port);
        // Its threads spin while they wait: those of several servers would keep each other from work.
        keeper.env("LLAMA_ARG_THREADS", "1");
        if let Some(key) = key {
            keeper.env("REAL_KEY", key);
        }
        // Its own group: a Ctrl-C at the terminal is for the test, whose end it then sees.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = Server { keeper: keeper.spawn().map_err(|e| e.to_string())?, url: String::new() };
        let output = server.keeper.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut server.url).map_err(|e| e.to_string())?;
        server.url.truncate(server.url.trim_end().len());
        if server.url.is_empty() { Err("the server did not start".to_owned()) } else { Ok(server) }
    }

    /// Kills it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The vectors that the server at `url` gives for `texts`, asked for as plain numbers and without the extension.
pub fn ask(url: &str, key: Option<&str>, texts: &[String]) -> Vec<Vec<f32>> {
    texts.chunks(CHUNK).flat_map(|texts| ask_once(url, key, texts)).collect()
}

fn ask_once(url: &str, key: Option<&str>, texts: &[String]) -> Vec<Vec<f32>> {
    let body = json!({"model": "proxied", "input": texts, "encoding_format": "float"}).to_string();
    let request = ureq::post(format!("{url}/embeddings")).header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", key.unwrap_or("none")));
    let answer = request.send(body).unwrap_or_else(|e| panic!("{url} refuses a direct request: {e}"));
    let answer = answer.into_body().into_with_config().limit(64 << 20).read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let items = answer["data"].as_array().expect("a list");
    assert_eq!(items.len(), texts.len());
    let mut vectors = vec![Vec::new(); texts.len()];
    for item in items {
        let place = usize::try_from(item["index"].as_u64().expect("an index")).unwrap();
        let numbers = item["embedding"].as_array().expect("numbers").iter();
        vectors[place] = numbers.map(|number| number.as_f64().expect("a number") as f32).collect();
        assert_eq!(vectors[place].len(), DIMS);
    }
    vectors
}
