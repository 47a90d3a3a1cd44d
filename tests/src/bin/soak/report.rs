//! The samples for people, and whether they stay as they were.

use super::{LATENCY, Options, Sample};
use std::fmt::Write as _;
use std::time::Duration;

const MB: f64 = 1_048_576.0;

/// One quantity in the first quarter of a run and in its last.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its name, and the unit.
    pub what: &'static str,
    first: f64,
    last: f64,
    /// Between what the last may be.
    bounds: (f64, f64),
}

impl Judged {
    /// Whether it has stayed as it was.
    pub fn is_flat(&self) -> bool {
        (self.bounds.0..=self.bounds.1).contains(&self.last)
    }

    /// In plain words, where it has not.
    pub fn complaint(&self) -> String {
        format!("{} went from {:.1} to {:.1}", self.what, self.first, self.last)
    }
}

/// The value that so many of a hundred are not above; 0 of none.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

fn all(samples: &[Sample], of: impl Fn(&Sample) -> &Vec<f64>) -> Vec<f64> {
    samples.iter().flat_map(|sample| of(sample).iter().copied()).collect()
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    percentile(&samples.iter().map(of).collect::<Vec<_>>(), 50)
}

/// Compares the first quarter with the last.
pub fn judge(samples: &[Sample]) -> Vec<Judged> {
    let quarter = (samples.len() / 4).max(1).min(samples.len());
    let (first, last) = (&samples[..quarter], &samples[samples.len() - quarter..]);
    // A factor, and what is too little to matter.
    let rises = |what, of: &dyn Fn(&[Sample]) -> f64, factor: f64, slack: f64| {
        let (first, last) = (of(first), of(last));
        Judged { what, first, last, bounds: (0.0, first * factor + slack) }
    };
    let rate =
        |samples: &[Sample]| samples.iter().map(|s| s.rows_per_second).sum::<f64>() / samples.len().max(1) as f64;
    vec![
        rises("worker's own memory, MB", &|s| median(s, |s| s.memory / MB), 1.2, 5.0),
        rises("queue, MB", &|s| median(s, |s| s.queue / MB), 1.5, 2.0),
        rises("queue, jobs", &|s| median(s, |s| s.jobs), 1.5, 500.0),
        rises("other tables of the worker, MB", &|s| median(s, |s| s.others / MB), 1.5, 2.0),
        rises("commit to vector p50, ms", &|s| percentile(&all(s, |s| &s.vectors), 50), 1.3, 20.0),
        rises("commit to vector p95, ms", &|s| percentile(&all(s, |s| &s.vectors), 95), 1.5, 50.0),
        rises("one-row INSERT p50, ms", &|s| percentile(&all(s, |s| &s.inserts), 50), 1.3, 1.0),
        rises("one-row INSERT p95, ms", &|s| percentile(&all(s, |s| &s.inserts), 95), 1.5, 10.0),
        Judged {
            what: "vectors a second",
            first: rate(first),
            last: rate(last),
            bounds: (rate(first) * 0.8, f64::MAX),
        },
    ]
}

/// All of it, in Markdown.
pub fn markdown(
    options: &Options,
    rate: f64,
    samples: &[Sample],
    judged: &[Judged],
    (rows, bad): (usize, usize),
    healed: Duration,
) -> String {
    let mut text = format!(
        "{} s, {} sessions that write {rate:.0} statements a second (20 % one-row INSERTs, 20 % DELETEs, 50 % one-row UPDATEs, 10 % UPDATEs of 20 rows), \
         a table of about {} rows, an embedding server that takes {} ms.\n\n\
         | minute | vectors/s | commit to vector, ms: p50 | p95 | INSERT, ms: p50 | p95 | worker, MB | queue, jobs | queue, MB | dead rows | other tables, MB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        options.time.as_secs(),
        options.clients,
        options.rows,
        LATENCY.as_millis(),
    );
    let minute = |sample: &Sample| sample.at.saturating_sub(Duration::from_millis(1)).as_secs() / 60;
    for of in samples.chunk_by(|a, b| minute(a) == minute(b)) {
        let (vectors, inserts) = (all(of, |s| &s.vectors), all(of, |s| &s.inserts));
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} | {:.1} | {:.0} | {:.1} |",
            minute(&of[0]) + 1,
            of.iter().map(|s| s.rows_per_second).sum::<f64>() / of.len() as f64,
            percentile(&vectors, 50),
            percentile(&vectors, 95),
            percentile(&inserts, 50),
            percentile(&inserts, 95),
            median(of, |s| s.memory / MB),
            median(of, |s| s.jobs),
            median(of, |s| s.queue / MB),
            median(of, |s| s.dead),
            median(of, |s| s.others / MB),
        );
    }
    text.push_str("\n| | first quarter | last quarter | |\n|---|---|---|---|\n");
    for judged in judged {
        let verdict = if judged.is_flat() { "flat" } else { "**not flat**" };
        let _ = writeln!(text, "| {} | {:.1} | {:.1} | {verdict} |", judged.what, judged.first, judged.last);
    }
    let _ = write!(
        text,
        "\nAll work was done {:.1} s after the last statement; {} of {rows} rows then had the vector of their text.",
        healed.as_secs_f64(),
        rows - bad
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred samples, each quantity `rise` times what it was by the end.
    fn samples(rise: f64) -> Vec<Sample> {
        let sample = |n: u64| {
            let now = 1.0 + (rise - 1.0) * n as f64 / 99.0;
            Sample {
                at: Duration::from_secs(n * 10),
                rows_per_second: 1000.0 / now,
                vectors: vec![80.0 * now, 200.0 * now],
                inserts: vec![2.0 * now, 20.0 * now],
                memory: 50.0 * MB * now,
                jobs: 2000.0 * now,
                queue: 10.0 * MB * now,
                dead: 0.0,
                others: 10.0 * MB * now,
            }
        };
        (0..100).map(sample).collect()
    }

    #[test]
    fn what_rises_is_seen_and_what_does_not_is_not() {
        assert!(judge(&samples(1.0)).iter().all(Judged::is_flat));
        for judged in judge(&samples(3.0)) {
            assert!(!judged.is_flat(), "{judged:?}");
        }
    }

    #[test]
    fn a_minute_is_a_line() {
        let options = Options { time: Duration::from_secs(1000), rows: 5, clients: 1 };
        let samples = samples(1.0);
        let text = markdown(&options, 10.0, &samples, &judge(&samples), (5, 1), Duration::ZERO);
        assert!(text.contains("\n| 1 | 1000 |") && text.contains("\n| 17 | 1000 |"), "{text}");
        assert!(text.contains("4 of 5 rows") && !text.contains("not flat"), "{text}");
    }
}
