//! What was too large, read from a server's words.

/// What was too large, as far as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversize {
    /// One of the inputs, or all of them together.
    pub part: Part,
    /// What the figures count, if that is known.
    pub unit: Option<Unit>,
    /// The most that is accepted.
    pub limit: Option<u64>,
    /// What was sent.
    pub found: Option<u64>,
}

/// Which part of a request was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A single input.
    Input,
    /// The inputs of the request together.
    Batch,
}

/// What a size is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The server's own tokens.
    Tokens,
    /// Texts.
    Inputs,
    /// Bytes of the request.
    Bytes,
}

/// No request comes near these figures: a larger one is a mistake, or meant to do harm.
const MAX_FIGURE: u64 = 10_000_000;
const MAX_BYTES: u64 = 1 << 30;

/// One way of saying it: the words that have to be there, and those right before a figure, or (`~`) right after it.
struct Form {
    words: &'static [&'static str],
    part: Part,
    unit: Option<Unit>,
    limit: &'static [&'static str],
    found: &'static [&'static str],
}

const fn form(
    words: &'static [&'static str],
    part: Part,
    unit: Unit,
    limit: &'static [&'static str],
    found: &'static [&'static str],
) -> Form {
    Form { words, part, unit: Some(unit), limit, found }
}

/// As they were seen in answers of the providers and of the servers that speak OpenAI's format; the first one counts.
#[rustfmt::skip]
const FORMS: &[Form] = {
    use Part::{Batch, Input};
    use Unit::{Bytes, Inputs, Tokens};
    &[
        // OpenAI, Azure, vLLM.
        form(&["maximum context length is"], Input, Tokens, &["context length is"], &["you requested", "your request has", "contains at least", "contains"]),
        form(&["maximum input length is"], Input, Tokens, &["input length is"], &[]),
        form(&["tokens per request"], Batch, Tokens, &["tokens, max"], &["requested"]),
        form(&["array too long"], Batch, Inputs, &["maximum length"], &["array with length"]),
        Form { words: &["string too long"], part: Input, unit: None, limit: &[], found: &[] },
        form(&["request too large"], Batch, Tokens, &["limit"], &["requested"]),
        form(&["too many inputs"], Batch, Inputs, &["max number of inputs is", "max is"], &["got"]),
        // Mistral.
        form(&["too many tokens in batch"], Batch, Tokens, &["max is"], &["got"]),
        form(&["too many tokens overall"], Batch, Tokens, &[], &[]),
        form(&["input id", "exceeding max"], Input, Tokens, &["exceeding max"], &["~tokens, exceeding"]),
        // Text Embeddings Inference.
        form(&["must have less than", "tokens"], Input, Tokens, &["less than"], &["given:"]),
        form(&["batch size", "maximum allowed batch size"], Batch, Inputs, &["maximum allowed batch size"], &["batch size"]),
        // Cohere.
        form(&["total number of texts must be at most"], Batch, Inputs, &["at most"], &["received"]),
        form(&["too many tokens: total number of tokens", "cannot exceed"], Input, Tokens, &["cannot exceed"], &["received"]),
        // Voyage.
        form(&["batch size limit is"], Batch, Inputs, &["batch size limit is"], &["your batch size is"]),
        form(&["max allowed tokens per submitted batch"], Batch, Tokens, &["submitted batch is"], &["your batch has"]),
        form(&["too many tokens and does not fit"], Input, Tokens, &["context window of"], &[]),
        // Jina.
        form(&["single text cannot exceed"], Input, Tokens, &["cannot exceed"], &["~tokens given"]),
        form(&["each input list can contain at most"], Batch, Inputs, &["at most"], &[]),
        form(&["input length is larger than the largest allowed size"], Batch, Inputs, &["allowed size"], &[]),
        // Gemini.
        form(&["requests can be in one batch"], Batch, Inputs, &["at most"], &[]),
        form(&["input token count", "exceeds the maximum number of tokens"], Input, Tokens, &["tokens allowed"], &["token count"]),
        form(&["input token count is", "but the model supports up to"], Batch, Tokens, &["supports up to"], &["token count is"]),
        form(&["request payload size exceeds the limit"], Batch, Bytes, &["exceeds the limit:"], &[]),
        // llama.cpp and Ollama.
        form(&["is too large to process", "batch size"], Input, Tokens, &["current batch size:"], &["input"]),
        form(&["exceeds the available context size"], Input, Tokens, &["context size"], &["request"]),
        form(&["input length exceeds", "context length"], Input, Tokens, &[], &[]),
        // Others that speak OpenAI's format.
        form(&["batch size is invalid", "not be larger than"], Batch, Inputs, &["larger than"], &[]),
        form(&["too many input tokens"], Input, Tokens, &["max input tokens:"], &["token count:"]),
        form(&["prompt is too long"], Input, Tokens, &["tokens >"], &["too long:"]),
        // Web servers and frameworks.
        form(&["entity too large"], Batch, Bytes, &[], &[]),
        form(&["payload too large"], Batch, Bytes, &[], &[]),
        form(&["request body too large"], Batch, Bytes, &[], &[]),
        form(&["request body", "length limit exceeded"], Batch, Bytes, &[], &[]),
    ]
};

impl Oversize {
    /// A refusal that names no size.
    pub(super) fn unsaid(part: Part, unit: Unit) -> Self {
        Self { part, unit: Some(unit), limit: None, found: None }
    }

    /// What `message`, in lower case, says about a size; `None` if it speaks of something else.
    pub(super) fn read(message: &str) -> Option<Self> {
        let form = FORMS.iter().find(|form| form.words.iter().all(|words| message.contains(words)))?;
        let largest = if form.unit == Some(Unit::Bytes) { MAX_BYTES } else { MAX_FIGURE };
        let figure = |places: &[&str]| {
            places.iter().find_map(|place| figure_at(message, place)).filter(|figure| (1..=largest).contains(figure))
        };
        Some(Self { part: form.part, unit: form.unit, limit: figure(form.limit), found: figure(form.found) })
    }

    /// Whether the figures prove that what was sent can never be accepted.
    pub(super) fn is_certain(&self) -> bool {
        matches!((self.limit, self.found), (Some(limit), Some(found)) if found > limit)
    }
}

/// The figure next to the first mention of `place` that has one.
fn figure_at(message: &str, place: &str) -> Option<u64> {
    match place.strip_prefix('~') {
        Some(place) => message.match_indices(place).find_map(|(at, _)| figure_before(&message[..at])),
        None => message.match_indices(place).find_map(|(at, _)| figure_after(&message[at + place.len()..])),
    }
}

fn figure_after(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', ':', '(', '=', '`', '\'', '"']);
    parse(&text[..text.find(|c| !is_of_figure(c)).unwrap_or(text.len())])
}

fn figure_before(text: &str) -> Option<u64> {
    let text = text.trim_end();
    parse(
        &text[text
            .rfind(|c| !is_of_figure(c))
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8))..],
    )
}

fn is_of_figure(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, ',' | '_')
}

fn parse(figure: &str) -> Option<u64> {
    let digits: String = figure.chars().filter(char::is_ascii_digit).take(20).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::Part::{Batch, Input};
    use super::Unit::{Bytes, Inputs, Tokens};
    use super::*;

    type Case = (&'static str, Part, Unit, Option<u64>, Option<u64>);

    #[test]
    fn sizes_in_words() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            // message, part, unit, limit, found
            ("This model's maximum context length is 8192 tokens, however you requested 9123 tokens (9123 in your prompt; 0 for the completion).", Input, Tokens, Some(8192), Some(9123)),
            ("This model's maximum context length is 512 tokens. However, you requested 1451 tokens in the input for embedding generation.", Input, Tokens, Some(512), Some(1451)),
            ("This model's maximum context length is 512 tokens. However, your request has 600 input tokens.", Input, Tokens, Some(512), Some(600)),
            ("This model's maximum context length is 512 tokens, but the prompt contains at least 513 input tokens", Input, Tokens, Some(512), Some(513)),
            ("Invalid 'input[3]': maximum input length is 8192 tokens.", Input, Tokens, Some(8192), None),
            ("Invalid 'input': maximum context length is 8192 tokens.", Input, Tokens, Some(8192), None),
            ("Requested 322149 tokens, max 300000 tokens per request", Batch, Tokens, Some(300_000), Some(322_149)),
            ("Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 2049 instead.", Batch, Inputs, Some(2048), Some(2049)),
            ("Request too large for m in organization o on tokens per min (TPM): Limit 40,000, Requested 51,200.", Batch, Tokens, Some(40_000), Some(51_200)),
            ("Too many inputs. The max number of inputs is 16.  We hope to increase it.", Batch, Inputs, Some(16), None),
            ("Too many inputs in request. Max is 256 got 300", Batch, Inputs, Some(256), Some(300)),
            ("Too many inputs in request, split into more batches.", Batch, Inputs, None, None),
            ("Too many tokens in batch. Max is 16384 got 20000", Batch, Tokens, Some(16_384), Some(20_000)),
            ("Too many tokens overall, split into more batches.", Batch, Tokens, None, None),
            ("Input id 0 has 9123 tokens, exceeding max 8192 tokens.", Input, Tokens, Some(8192), Some(9123)),
            ("Input validation error: `inputs` must have less than 512 tokens. Given: 1337", Input, Tokens, Some(512), Some(1337)),
            ("batch size 64 > maximum allowed batch size 32", Batch, Inputs, Some(32), Some(64)),
            ("invalid request: total number of texts must be at most 96 - received 131", Batch, Inputs, Some(96), Some(131)),
            ("too many tokens: total number of tokens in the text cannot exceed 512 - received 1337", Input, Tokens, Some(512), Some(1337)),
            ("The batch size limit is 1000. Your batch size is 1001.", Batch, Inputs, Some(1000), Some(1001)),
            ("The max allowed tokens per submitted batch is 120000. Your batch has 151254 tokens after truncation.", Batch, Tokens, Some(120_000), Some(151_254)),
            ("The example at index 0 in your batch has too many tokens and does not fit into the model's context window of 32000 tokens.", Input, Tokens, Some(32_000), None),
            ("Single text cannot exceed 8192 tokens. 12432 tokens given.", Input, Tokens, Some(8192), Some(12_432)),
            ("Validation error: 'body -> m' Each input list can contain at most 512 items..", Batch, Inputs, Some(512), None),
            ("input length is larger than the largest allowed size 2048", Batch, Inputs, Some(2048), None),
            ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", Batch, Inputs, Some(100), None),
            ("The input token count exceeds the maximum number of tokens allowed 2048.", Input, Tokens, Some(2048), None),
            ("The input token count (2050) exceeds the maximum number of tokens allowed (2048).", Input, Tokens, Some(2048), Some(2050)),
            ("the input token count is 20500 but the model supports up to 20000.", Batch, Tokens, Some(20_000), Some(20_500)),
            ("Request payload size exceeds the limit: 20971520 bytes.", Batch, Bytes, Some(20_971_520), None),
            ("input (1337 tokens) is too large to process. increase the physical batch size (current batch size: 512)", Input, Tokens, Some(512), Some(1337)),
            ("input is too large to process. increase the physical batch size", Input, Tokens, None, None),
            ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", Input, Tokens, Some(8192), Some(9000)),
            ("the input length exceeds the context length", Input, Tokens, None, None),
            ("input length exceeds maximum context length", Input, Tokens, None, None),
            ("Value error, batch size is invalid, it should not be larger than 10.: input.contents", Batch, Inputs, Some(10), None),
            ("Too many input tokens. Max input tokens: 8192, request input token count: 9000", Input, Tokens, Some(8192), Some(9000)),
            ("prompt is too long: 9000 tokens > 8192 maximum", Input, Tokens, Some(8192), Some(9000)),
            ("413 Request Entity Too Large", Batch, Bytes, None, None),
            ("Failed to buffer the request body: length limit exceeded", Batch, Bytes, None, None),
            // Figures that are none.
            ("Too many inputs. The max number of inputs is 0.", Batch, Inputs, None, None),
            ("Too many tokens in batch. Max is 99999999999999999999999 got 20000000", Batch, Tokens, None, None),
            ("Too many tokens in batch. Max is -5 got many", Batch, Tokens, None, None),
            ("batch size 10000001 > maximum allowed batch size 10000000", Batch, Inputs, Some(10_000_000), None),
        ];
        for (message, part, unit, limit, found) in cases {
            let expected = Oversize { part: *part, unit: Some(*unit), limit: *limit, found: *found };
            assert_eq!(Oversize::read(&message.to_ascii_lowercase()), Some(expected), "{message}");
        }
    }

    #[test]
    fn other_words() {
        for message in [
            "",
            "rate limit reached for m on tokens per min (tpm): limit 1000000, used 993113, requested 8025",
            "token rate limit exceeded, at most 1000000 tokens per minute are allowed.",
            "`dimensions` should be smaller than the maximum embedding dimension. you requested 2048 dimensions",
            "`inputs` cannot be empty",
            "'$.input' is invalid",
        ] {
            assert_eq!(Oversize::read(message), None, "{message}");
        }
        let characters =
            Oversize::read("string too long. expected a string with maximum length 9, but got length 10").unwrap();
        assert_eq!((characters.unit, characters.limit), (None, None));
    }

    #[test]
    fn figures_between_strange_characters() {
        assert_eq!(figure_before("日12 "), Some(12));
        assert_eq!(figure_before("12"), Some(12));
        assert_eq!(figure_before("日"), None);
        assert_eq!(figure_before(""), None);
        assert_eq!(figure_after(" `1_024` "), Some(1024));
        assert_eq!(figure_after("日7"), None);
        assert_eq!(figure_after(",,"), None);
    }
}
