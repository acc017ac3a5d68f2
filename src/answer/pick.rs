//! Which k of n records are answered with, and in which order.
//!
//! Floyd's method picks k distinct numbers below n in k steps, so a service with ten thousand
//! instances costs no more than one with ten. Each is equally likely to be among them, and all
//! orders are.
//!
//! **Hot.** The buffers are the caller's and are reused; they grow to the largest service asked.

/// Buffers for picking, reused from query to query.
#[derive(Clone, Debug, Default)]
pub struct Picks {
    chosen: Vec<u32>,
    /// A bit for each number below n. **Invariant:** all zero between two calls.
    taken: Vec<u64>,
}

impl Picks {
    /// `k` distinct numbers below `n`, or all `n` if that is fewer, in random order.
    pub fn distinct(&mut self, n: usize, k: usize, random: &mut Random) -> &[u32] {
        self.chosen.clear();
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let k = u32::try_from(k).unwrap_or(u32::MAX).min(n);
        if k == n {
            self.chosen.extend(0..n);
        } else {
            self.taken.resize(self.taken.len().max(n as usize / WORD + 1), 0);
            for last in n - k..n {
                let candidate = random.below(last + 1);
                // If it is taken, `last` cannot be: it was not in reach before.
                let pick = if self.take(candidate) { candidate } else { last };
                if pick == last {
                    self.take(last);
                }
                self.chosen.push(pick);
            }
            for pick in &self.chosen {
                if let Some(word) = self.taken.get_mut(*pick as usize / WORD) {
                    *word = 0;
                }
            }
        }
        self.shuffle(random);
        &self.chosen
    }

    /// The same, or the first `k` in their order where that means something.
    pub fn some(&mut self, n: usize, k: usize, is_sorted: bool, random: &mut Random) -> &[u32] {
        if !is_sorted {
            return self.distinct(n, k, random);
        }
        self.chosen.clear();
        self.chosen.extend((0..k.min(n)).filter_map(|at| u32::try_from(at).ok()));
        &self.chosen
    }

    /// Sets the bit of `number`. False if it was set.
    fn take(&mut self, number: u32) -> bool {
        let bit = 1 << (number as usize % WORD);
        match self.taken.get_mut(number as usize / WORD) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Fisher and Yates.
    fn shuffle(&mut self, random: &mut Random) {
        for at in (1..self.chosen.len()).rev() {
            let other = random.below(at as u32 + 1) as usize;
            self.chosen.swap(at, other);
        }
    }
}

/// Pseudo-random numbers from a seed: SplitMix64, which is enough to spread load.
///
/// Not for secrets. The caller draws a new seed for each query.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 if that is 0. Biased by less than 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const WORD: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_distinct_and_below_n() {
        let mut picks = Picks::default();
        for (n, k) in [(0, 0), (0, 3), (1, 1), (3, 3), (3, 9), (60, 3), (64, 63), (10_000, 75)] {
            for seed in 0..200 {
                let mut got = picks.distinct(n, k, &mut Random::new(seed)).to_vec();
                assert_eq!(got.len(), k.min(n));
                got.sort_unstable();
                got.dedup();
                assert_eq!(got.len(), k.min(n), "n {n} k {k} seed {seed}");
                assert!(got.iter().all(|pick| (*pick as usize) < n));
            }
        }
    }

    /// Pearson's test over 60,000 draws of 3 of 10: each number, and each first place, equally
    /// often. 27.9 is the 99.9 % point of chi-square with 9 degrees of freedom; the seeds are
    /// fixed, so this holds for ever or never.
    #[test]
    fn each_record_is_equally_likely() {
        let mut picks = Picks::default();
        let (mut chosen, mut first) = ([0_u32; 10], [0_u32; 10]);
        for seed in 0..60_000 {
            let got = picks.distinct(10, 3, &mut Random::new(seed));
            got.iter().for_each(|pick| chosen[*pick as usize] += 1);
            first[got[0] as usize] += 1;
        }
        for (counts, expected) in [(chosen, 18_000.0), (first, 6_000.0)] {
            let chi: f64 =
                counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
            assert!(chi < 27.9, "{counts:?} chi-square {chi}");
        }
    }

    #[test]
    fn all_orders_of_three_appear() {
        let mut picks = Picks::default();
        let orders: std::collections::BTreeSet<_> =
            (0..100).map(|seed| picks.distinct(3, 3, &mut Random::new(seed)).to_vec()).collect();
        assert_eq!(orders.len(), 6);
    }
}
