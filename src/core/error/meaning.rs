//! What a refusal is about, by its codes and words.
//!
//! Codes come first where a server has them; words are those of answers that were seen. A refusal that means every
//! request must not be taken for one input's (each row would be given up), nor one input's for every request's (the
//! model would stand still), so what is in doubt counts as the inputs'.

use super::body::Said;
use crate::model::Model;

const REFUSALS: [&str; 22] = [
    "not supported",
    "does not support",
    "unsupported",
    "not valid",
    "invalid",
    "not permitted",
    "not allowed",
    "not accepted",
    "extra inputs",
    "unexpected",
    "unknown",
    "unrecognized",
    "must be",
    "should be",
    "must provide",
    "at most",
    "less than",
    "greater than",
    "out of range",
    "supported values",
    "matryoshka",
    "too many",
];

impl Said {
    /// The code of an account that waiting does not refill.
    pub(super) fn spent_account(&self) -> Option<&'static str> {
        const CODES: [&str; 10] = [
            "insufficient_quota",
            "insufficient_user_quota",
            "insufficient_balance",
            "insufficient_credits",
            "insufficient_funds",
            "account_deactivated",
            "billing_hard_limit_reached",
            "billing_not_active",
            "payment_required",
            // LiteLLM's, of a key or a team; with 400 or 429.
            "budget_exceeded",
        ];
        if let Some(code) = CODES.into_iter().find(|code| self.has_code(&[code]) || self.says(&[code])) {
            return Some(code);
        }
        if self.codes.iter().any(|code| code.starts_with("billing")) {
            return Some("billing");
        }
        let empty = self.says(&[
            "insufficient balance",
            "insufficient account balance",
            "insufficient credit",
            "insufficient funds",
            "balance is insufficient",
            "balance not enough",
            "balance is not enough",
            "balance is too low",
            "not enough credit",
            "out of credit",
            "billing hard limit",
            "please recharge",
        ]);
        empty.then_some("insufficient_balance")
    }

    /// The code of a quota for an hour or longer; `None` for the limits of a minute, which every account has.
    pub(super) fn spent_period(&self) -> Option<&'static str> {
        if self.has_spent_day() {
            return Some("daily_quota");
        }
        if self.says(&["per minute", "/ minute", "/minute", "per min", "per second", "/ min"]) {
            return None;
        }
        let periods: [(&[&str], &str); 4] = [
            (&["per month", "/ month", "/month", "monthly"], "monthly_quota"),
            (&["per week", "/ week", "/week", "weekly"], "weekly_quota"),
            (&["per day", "/ day", "/day", "daily", "(rpd)", "(tpd)"], "daily_quota"),
            (&["per hour", "/ hour", "/hour", "hourly"], "hourly_quota"),
        ];
        let said = periods.into_iter().find(|(words, _)| self.says(words)).map(|(_, code)| code);
        said.or_else(|| (self.has_code(&["quota_exceeded"]) || self.is_call_quota()).then_some("quota_exceeded"))
    }

    /// Google names the quotas that were hit; the wait it gives with them is a minute's even if the day's is spent.
    pub(super) fn has_spent_day(&self) -> bool {
        self.quotas.iter().any(|quota| quota.contains("perday"))
    }

    /// Azure's gateway, with status 403.
    pub(super) fn is_call_quota(&self) -> bool {
        self.says(&["out of call volume quota"])
    }

    pub(super) fn is_about_key(&self) -> bool {
        // LiteLLM without a database has one key, and says to all others that there is no database.
        self.has_code(&[
            "invalid_api_key",
            "api_key_invalid",
            "authentication_error",
            "unauthenticated",
            "no_db_connection",
        ]) || self.says(&[
            "api key not valid",
            "api key is not valid",
            "api key is invalid",
            "api key expired",
            "invalid api key",
            "incorrect api key",
            "invalid api token",
            "invalid subscription key",
            "no api key",
        ])
    }

    /// Whether it matters where the requests come from.
    pub(super) fn is_about_place(&self) -> bool {
        self.has_code(&["unsupported_country_region_territory"])
            || (self.says(&["location", "country", "region"])
                && self.says(&["is not supported", "not supported for", "not available in", "territory not supported"]))
    }

    /// Whether something in front of the API refuses the connection.
    pub(super) fn is_about_access(&self) -> bool {
        self.is_page
            || self.says(&["firewall", "virtual network", "private endpoint", "ip address", "ip_not_authorized"])
    }

    /// Whether a provider's rules of content refuse a text.
    pub(super) fn is_about_content(&self) -> bool {
        self.has_code(&[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "data_inspection_failed",
        ]) || self.says(&["content management policy", "content policy", "input was flagged", "blocked input"])
    }

    pub(super) fn is_unknown_model(&self) -> bool {
        self.has_code(&[
            "model_not_found",
            "invalid_model",
            "unknown_model",
            "unavailable_model",
            "deploymentnotfound",
            "operationnotsupported",
        ]) || self.field.as_deref() == Some("model")
            || self.says(&["does not support embeddings", "not allowed to generate embeddings"])
            || (self.says(&["model", "deployment"])
                && self.says(&[
                    "not found",
                    "does not exist",
                    "not exist",
                    "unknown model",
                    "invalid model",
                    "unavailable model",
                    "unexpected model",
                    "does not have access to",
                    "no models loaded",
                    "model not loaded",
                    "model is not loaded",
                    "supported models",
                    "is not supported by",
                    "not supported by this model",
                ]))
    }

    /// Whether the length of the vectors is what is refused.
    pub(super) fn is_about_dimensions(&self) -> bool {
        const NAMES: [&str; 4] = ["dimensions", "output_dimension", "outputdimensionality", "output_dimensionality"];
        match &self.field {
            Some(field) => NAMES.contains(&field.as_str()),
            None => self.says(&["dimension"]) && self.says(&REFUSALS),
        }
    }

    /// Whether something that is the same for every input is what is refused.
    pub(super) fn is_about_a_parameter(&self, model: &Model) -> bool {
        // Names that say what they are wherever they stand.
        const NAMES: [&str; 7] =
            ["input_type", "task_type", "tasktype", "encoding_format", "embedding_type", "output_dtype", "prompt_name"];
        // The request is not what the server reads, whatever its texts are.
        let unread = self.says(&[
            "unrecognized request argument",
            "unknown field",
            "unknown name",
            "cannot find field",
            "extra inputs are not permitted",
            "cannot unmarshal",
            "failed to deserialize",
            "failed to parse the request body",
            "field required",
            "missing field",
        ]);
        let mut options = model.options["body"].as_object().into_iter().flat_map(|body| body.keys());
        unread
            || self.field.is_some()
            || self.says(&["prompts not found"])
            || (self.says(&REFUSALS)
                && (self.says(&NAMES)
                    || options.any(|name| name.len() >= 4 && self.words.contains(&name.to_ascii_lowercase()))
                    || self.argument().is_some_and(|name| !["input", "inputs", "texts"].contains(&name))))
    }

    /// The name in `argument 'colour'`.
    fn argument(&self) -> Option<&str> {
        let (_, rest) = self.words.split_once("argument '").or_else(|| self.words.split_once("parameter '"))?;
        rest.split_once('\'').map(|(name, _)| name)
    }

    /// Whether the server has more to do than it can, or is about to begin.
    pub(super) fn is_overload(&self) -> bool {
        self.has_code(&["overloaded", "overloaded_error", "engine_overloaded", "server_overloaded"])
            || self.says(&[
                "overloaded",
                "server busy",
                "slow down",
                "too many requests",
                "rate limit",
                "is currently loading",
                "loading model",
            ])
    }
}
