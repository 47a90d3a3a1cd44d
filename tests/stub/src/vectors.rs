//! The vectors that are answered.

use std::io;

use autoembed_local::Model;

use crate::{StubConfig, Vectors};

/// The vector that [`Vectors::Hashed`] answers for a text: pseudo-random, of length 1, the same on every machine, and
/// different for different texts. A checker calls it to know what each row's vector must be.
pub fn hashed_vector(text: &str, dims: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dims];
    fill_hashed(text, &mut vector);
    vector
}

fn fill_hashed(text: &str, out: &mut [f32]) {
    let mut state = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut sum = 0.0;
    for pair in out.chunks_mut(2) {
        let bits = next(&mut state);
        for (value, half) in pair.iter_mut().zip([bits >> 40, (bits >> 8) & 0xFF_FFFF]) {
            // 24 random bits, as many as an f32 keeps: odd numbers, so that no value is ever zero.
            *value = ((half as i32) * 2 + 1 - (1 << 24)) as f32;
            sum += f64::from(*value) * f64::from(*value);
        }
    }
    let factor = 1.0 / sum.sqrt();
    out.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
}

/// The next 64 random bits (splitmix64).
#[inline]
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A configured source of vectors.
pub(crate) enum Source {
    Builtin(Box<Model>),
    Hashed(usize),
    Constant(Vec<f32>),
}

impl Source {
    pub(crate) fn open(config: &StubConfig) -> io::Result<Self> {
        Ok(match config.vectors {
            Vectors::Builtin => Self::Builtin(Box::new(Model::open(&config.model_dir).map_err(io::Error::other)?)),
            Vectors::Hashed(dims) => Self::Hashed(dims),
            Vectors::Constant(dims) => Self::Constant(hashed_vector("", dims)),
        })
    }

    /// Dimensions of vectors when the request asks for none.
    pub(crate) fn dimensions(&self) -> usize {
        match self {
            Self::Builtin(model) => model.dimensions(),
            Self::Hashed(dims) => *dims,
            Self::Constant(vector) => vector.len(),
        }
    }

    /// Dimensions for a request that asks for `asked`; the error is the most that there are.
    pub(crate) fn dimensions_for(&self, asked: Option<usize>) -> Result<usize, usize> {
        let most = match self {
            Self::Builtin(model) => model.dimensions(),
            _ => 16_000,
        };
        match asked {
            None => Ok(self.dimensions()),
            Some(n) if (1..=most).contains(&n) => Ok(n),
            Some(_) => Err(most),
        }
    }

    /// The vector of a text, in `dims` dimensions. A text of which the built-in model knows nothing gets a hashed vector:
    /// a real API also answers something.
    pub(crate) fn vector(&self, text: &str, dims: usize) -> Vec<f32> {
        match self {
            Self::Builtin(model) => match model.embed(text) {
                Some(vector) => shortened(vector, dims),
                None => hashed_vector(text, dims),
            },
            Self::Hashed(_) => hashed_vector(text, dims),
            Self::Constant(vector) if vector.len() == dims => vector.clone(),
            Self::Constant(_) => hashed_vector("", dims),
        }
    }
}

/// The first dimensions, of length 1 again.
fn shortened(mut vector: Vec<f32>, dims: usize) -> Vec<f32> {
    if dims != vector.len() {
        vector.truncate(dims);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn hashed_vectors_never_change() {
        // Rows embedded by one build are checked by another. These figures come from an implementation in Python.
        let expected = [0.650773, -0.27124587, -0.4604634, -0.53269887, -0.084413014];
        assert_eq!(hashed_vector("my parcel never arrived", 5), expected);
    }

    #[test]
    fn hashed_vectors_are_unit_and_differ() {
        for dims in [1, 2, 3, 384, 1536] {
            let (a, b) = (hashed_vector("a", dims), hashed_vector("b", dims));
            let length: f64 = a.iter().map(|&x| f64::from(x).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-5, "{dims} dimensions: {length}");
            assert!(a.iter().all(|x| x.is_finite() && *x != 0.0));
            if dims > 1 {
                assert_ne!(a, b);
            }
        }
        let (a, b) = (hashed_vector("row 1", 1536), hashed_vector("row 2", 1536));
        let cosine: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
        assert!(cosine.abs() < 0.15, "{cosine}");
    }
}
