//! How long a server asks to be left alone.

use std::time::{Duration, UNIX_EPOCH};

use crate::provider::Response;

/// No server makes a model wait longer: after that it is asked again.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
const TEN_YEARS: f64 = 10.0 * 365.0 * 86_400.0;

/// Beyond a year, figures are only a burden to whoever adds to them.
const FAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// From `retry-after`, else from the body's own field, else from the `x-ratelimit-reset-*` headers, else from the words
/// of the message. Not bounded by [`LONGEST`]: that a whole day was asked for is worth knowing.
pub(super) fn asked_for(
    response: &Response,
    field: Option<Duration>,
    message: &str,
    now_unix: u64,
) -> Option<Duration> {
    by_retry_after(response, now_unix)
        .or(field)
        .or_else(|| by_reset(response))
        .or_else(|| in_words(&message.to_ascii_lowercase()))
}

/// From `retry-after-ms` and `retry-after`, which is seconds or a date.
pub(super) fn by_retry_after(response: &Response, now_unix: u64) -> Option<Duration> {
    let millis = response.header("retry-after-ms").and_then(number).and_then(|ms| seconds(ms / 1000.0));
    millis.or_else(|| {
        let text = response.header("retry-after")?;
        number(text).map_or_else(|| until(text, now_unix), seconds)
    })
}

// A limit that still has something remaining is not the one that was hit. Where no header says what remains, the
// longest wait is the safe one.
fn by_reset(response: &Response) -> Option<Duration> {
    ["requests", "tokens"]
        .iter()
        .filter(|what| {
            let remaining = response.header(&format!("x-ratelimit-remaining-{what}")).and_then(number);
            remaining.is_none_or(|remaining| remaining <= 0.0)
        })
        .filter_map(|what| whole(response.header(&format!("x-ratelimit-reset-{what}"))?))
        .max()
}

fn until(date: &str, now_unix: u64) -> Option<Duration> {
    let at = httpdate::parse_http_date(date.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    bounded(at.checked_sub(Duration::from_secs(now_unix))?)
}

/// `try again in 7m12s`, `retry after 86400 seconds`; expects lower case.
fn in_words(message: &str) -> Option<Duration> {
    ["try again in ", "retry in ", "retry after ", "retry again in "].iter().find_map(|words| {
        let (_, rest) = message.split_once(words)?;
        let mut rest = rest.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ')']));
        let figure = rest.next()?;
        let Some(number) = number(figure) else { return whole(figure) };
        let factor = match rest.next()? {
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "min" | "minute" | "minutes" => 60.0,
            "hour" | "hours" => 3600.0,
            "day" | "days" => 86_400.0,
            _ => return None,
        };
        seconds(number * factor)
    })
}

/// A span as Go prints it: `6m0s`, `1h2m3.5s`, `12ms`; a bare number counts seconds. Never zero, at most an hour.
///
/// A number of more than ten years is no span: some servers write the moment itself, in seconds since 1970.
pub(crate) fn span(text: &str) -> Option<Duration> {
    whole(text).map(|span| span.min(LONGEST))
}

/// Like [`span`], but days stay days.
pub(super) fn whole(text: &str) -> Option<Duration> {
    if let Some(number) = number(text) {
        return if number > TEN_YEARS { None } else { seconds(number) };
    }
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let (figure, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let factor = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number(figure)? * factor;
        rest = tail;
    }
    seconds(total)
}

/// A finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

pub(super) fn seconds(number: f64) -> Option<Duration> {
    bounded(Duration::try_from_secs_f64(number.clamp(0.0, FAR.as_secs_f64())).ok()?)
}

// Zero says nothing; the model's own backoff is better than a storm.
fn bounded(wait: Duration) -> Option<Duration> {
    (!wait.is_zero()).then(|| wait.min(FAR))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn response(headers: Headers) -> Response {
        Response {
            status: 429,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: Vec::new(),
        }
    }

    #[test]
    fn headers_and_their_waits() {
        const NOW: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let ms = Duration::from_millis;
        #[rustfmt::skip]
        let cases: &[(Headers, Option<Duration>)] = &[
            (&[], None),
            (&[("retry-after", "7")], Some(ms(7_000))),
            (&[("Retry-After", " 1.5 ")], Some(ms(1_500))),
            (&[("retry-after", "0")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e300")], Some(FAR)),
            (&[("retry-after", "99999999999999999999")], Some(FAR)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT")], None),
            (&[("retry-after", "Sat, 06 Nov 2094 08:49:37 GMT")], Some(FAR)),
            (&[("retry-after-ms", "250"), ("retry-after", "1")], Some(ms(250))),
            (&[("retry-after", "2"), ("x-ratelimit-reset-requests", "6m0s")], Some(ms(2_000))),
            (&[("x-ratelimit-reset-requests", "6m0s")], Some(ms(360_000))),
            (&[("x-ratelimit-reset-tokens", "12ms")], Some(ms(12))),
            (&[("x-ratelimit-reset-tokens", "1m2.5s")], Some(ms(62_500))),
            (&[("x-ratelimit-reset-tokens", "20")], Some(ms(20_000))),
            (&[("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "3s")], Some(ms(3_000))),
            (&[("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-remaining-requests", "0"),
               ("x-ratelimit-reset-tokens", "9s"), ("x-ratelimit-remaining-tokens", "500")], Some(ms(1_000))),
            (&[("x-ratelimit-reset-tokens", "-1"), ("x-ratelimit-remaining-tokens", "-1")], None),
            (&[("x-ratelimit-reset-tokens", "1795000000")], None),
            (&[("x-ratelimit-reset-tokens", "0")], None),
            (&[("x-ratelimit-reset-tokens", "6 minutes")], None),
            (&[("x-ratelimit-reset-tokens", "m")], None),
            (&[("x-ratelimit-reset-tokens", "1.2.3s")], None),
            (&[("x-ratelimit-reset-tokens", "")], None),
            (&[("x-ratelimit-reset-tokens", "9999d")], Some(FAR)),
        ];
        for (headers, wait) in cases {
            assert_eq!(asked_for(&response(headers), None, "", NOW), *wait, "{headers:?}");
        }
    }

    #[test]
    fn words_and_their_waits() {
        let ms = Duration::from_millis;
        for (message, wait) in [
            ("Rate limit reached: Limit 200, Used 200. Please try again in 7m12s. See the docs.", Some(ms(432_000))),
            ("Please try again in 68ms.", Some(ms(68))),
            ("Please retry after 86400 seconds. Please go elsewhere.", Some(ms(86_400_000))),
            ("Please Retry After 1 second.", Some(ms(1_000))),
            ("Please retry in 11.5s.", Some(ms(11_500))),
            ("try again in 2 minutes", Some(ms(120_000))),
            ("try again in 3 hours, or later", Some(ms(10_800_000))),
            ("try again in 1 day", Some(ms(86_400_000))),
            ("try again in 250 milliseconds", Some(ms(250))),
            ("try again in a while", None),
            ("try again in 20", None),
            ("try again in 20 elephants", None),
            ("try again in 0 seconds", None),
            ("try again in -5 seconds", None),
            ("try again in 1e400 seconds", None),
            ("try again in ", None),
            ("please try again later", None),
        ] {
            assert_eq!(asked_for(&response(&[]), None, message, 0), wait, "{message}");
        }
    }

    #[test]
    fn the_nearest_to_the_letter_counts() {
        let headers: Headers = &[("x-ratelimit-reset-requests", "3s")];
        let words = "try again in 4s";
        let ask = |headers, field, words| asked_for(&response(headers), field, words, 0);
        let s = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(ask(&[("retry-after", "1")], s(2), words), s(1));
        assert_eq!(ask(headers, s(2), words), s(2));
        assert_eq!(ask(headers, None, words), s(3));
        assert_eq!(ask(&[], None, words), s(4));
    }

    #[test]
    fn a_span_is_at_most_an_hour() {
        assert_eq!(span("24h0m0s"), Some(LONGEST));
        assert_eq!(whole("24h0m0s"), Some(Duration::from_secs(86_400)));
    }
}
