//! Quantiles of many times without sorting them: each is counted in a class, which is as wide as a small part of it.

/// Classes for each factor of e: a value is known to some 1.6 %.
pub const CLASSES: f64 = 32.0;

/// How often each class was met.
#[derive(Debug, Clone, Default)]
pub struct Classes(Vec<(i32, i64)>);

impl Classes {
    /// Adds `count` values of a class, which is the whole part of [`CLASSES`] times the logarithm of the value.
    pub fn add(&mut self, class: i32, count: i64) {
        self.0.push((class, count));
    }

    /// The value that a share of them, from 0 to 1, does not exceed; `None` where there are none.
    pub fn quantiles<const N: usize>(&mut self, shares: [f64; N]) -> Option<[f64; N]> {
        self.0.sort_unstable();
        let all: i64 = self.0.iter().map(|(_, count)| count).sum();
        (all > 0).then(|| shares.map(|share| self.quantile(share, all)))
    }

    fn quantile(&self, share: f64, all: i64) -> f64 {
        let wanted = ((share * all as f64).ceil() as i64).max(1);
        let mut before = 0;
        let place = self.0.iter().find(|(_, count)| {
            before += count;
            before >= wanted
        });
        let class = place.or(self.0.last()).map_or(0, |(class, _)| *class);
        ((f64::from(class) + 0.5) / CLASSES).exp()
    }
}
