//! The built-in model: it runs in the server, so it has a place in the table and no wire format.

use std::time::Duration;

use super::Spec;
use crate::model::Limits;

pub(super) const SPEC: Spec = Spec {
    name: "local",
    url: None,
    url_example: "",
    // Nothing is sent: the limits only keep one step of the worker short.
    limits: Limits {
        batch_inputs: 1024,
        batch_tokens: 1_000_000,
        batch_bytes: 4 * 1024 * 1024,
        input_tokens: 1_000_000,
    },
    timeout: Duration::from_secs(60),
    key_env: None,
    key_hosts: &[],
    wire: None,
};
