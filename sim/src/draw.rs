//! The simulation's own random choices: small, fast, and the same everywhere.

use crate::entropy::mix;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of choices. Each part of a simulation has one of its own, so that what one part draws shifts no other.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The stream of one part, named by `part` and a number.
    #[must_use]
    pub fn new(seed: u64, part: &str, number: u64) -> Self {
        let name = part.bytes().fold(STEP, |hash, byte| mix(hash ^ u64::from(byte)));
        Self(mix(mix(seed.wrapping_add(STEP)) ^ name ^ mix(number.wrapping_mul(STEP))))
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        bytes
    }

    /// At least 0, less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Less than `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.word().checked_rem(bound as u64).unwrap_or_default() as usize
    }

    /// True with this probability. Certainties draw nothing.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (probability >= 1.0 || self.unit() < probability)
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Weibull distributed.
    pub fn weibull(&mut self, shape: f64, scale: f64) -> f64 {
        scale * (-(1.0 - self.unit()).ln()).powf(1.0 / shape)
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Mixes up a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distributions_have_their_means() {
        let mut draw = Draw::new(1, "test", 0);
        let n = 20_000;
        let mean = |values: &mut dyn FnMut() -> f64| (0..n).map(|_| values()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || draw.unit()) - 0.5).abs() < 0.01);
        assert!((mean(&mut || draw.exponential(3.0)) - 3.0).abs() < 0.1);
        // shape 1 is the exponential distribution
        assert!((mean(&mut || draw.weibull(1.0, 3.0)) - 3.0).abs() < 0.1);
        assert!((mean(&mut || draw.between(2.0, 4.0)) - 3.0).abs() < 0.02);
    }

    #[test]
    fn parts_draw_from_streams_of_their_own() {
        let mut first = Draw::new(1, "net", 0);
        let mut again = Draw::new(1, "net", 0);
        assert_eq!(first.word(), again.word());
        assert_ne!(Draw::new(1, "net", 0).word(), Draw::new(1, "net", 1).word());
        assert_ne!(Draw::new(1, "net", 0).word(), Draw::new(1, "ten", 0).word());
        assert_ne!(Draw::new(1, "net", 0).word(), Draw::new(2, "net", 0).word());
    }
}
