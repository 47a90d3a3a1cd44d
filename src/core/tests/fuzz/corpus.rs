//! What the mutations begin with: the recorded shapes of every provider's answers and errors.

use std::path::PathBuf;

use autoembed_core::provider::read_answer;
use autoembed_core::{Model, Provider, Response};

/// One recorded body.
#[derive(Debug, Clone)]
pub struct Sample {
    pub provider: Provider,
    pub status: u16,
    /// How many inputs of how many dimensions it answers; zero for errors.
    pub inputs: usize,
    pub dimensions: usize,
    pub body: Vec<u8>,
}

pub fn remote_providers() -> Vec<Provider> {
    Provider::ALL.iter().copied().filter(|provider| provider.is_remote()).collect()
}

/// Answers that can be read, with the size that they can be read at.
pub fn answers() -> Vec<Sample> {
    files("answer")
        .into_iter()
        .filter_map(|(provider, _, body)| {
            let sizes = (1..=8).flat_map(|dimensions| (1..=8).map(move |inputs| (dimensions, inputs)));
            let response = Response { status: 200, headers: Vec::new(), body };
            let (dimensions, inputs) = sizes.into_iter().find(|(dimensions, inputs)| {
                read_answer(&Model::new("m", provider, "remote", *dimensions), *inputs, &response).is_ok()
            })?;
            Some(Sample { provider, status: 200, inputs, dimensions, body: response.body })
        })
        .collect()
}

/// Errors, whose file names begin `error_<status>_`.
pub fn errors() -> Vec<Sample> {
    files("error_")
        .into_iter()
        .map(|(provider, name, body)| {
            let status = name.split('_').nth(1).and_then(|status| status.parse().ok()).expect(&name);
            Sample { provider, status, inputs: 0, dimensions: 0, body }
        })
        .collect()
}

fn files(prefix: &str) -> Vec<(Provider, String, Vec<u8>)> {
    let mut found = Vec::new();
    for provider in remote_providers() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("provider/fixtures").join(provider.as_str());
        for file in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = file.expect("a file").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(prefix) && path.extension().is_some_and(|extension| extension == "json") {
                found.push((provider, name, std::fs::read(&path).expect("a readable file")));
            }
        }
    }
    // The same seed gives the same cases, whatever the order of the directory.
    found.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    found
}
