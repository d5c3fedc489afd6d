//! Distributions that merge: durations with percentiles, and counts of distinct workflows.
//!
//! Both are exact up to 128 values and switch to a fixed-size form beyond. The switch depends only on how many values there are,
//! so any order of merging gives the same bytes.

use serde::{Deserialize, Serialize};

/// Up to this many values a distribution is kept exactly.
pub const EXACT_MAX: usize = 128;

/// Percentiles of durations in µs. Exact for up to 128 values; beyond that values of 256 µs and more fall into buckets of HDR
/// histogram layout with 2 significant digits (error at most 1/128 of the value, below 0.8 %).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sketch {
    count: u64,
    sum_us: u128,
    min_us: u64,
    max_us: u64,
    values: Values,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Values {
    /// All values; sorted whenever the sketch is at rest (see [`Sketch::settle`]).
    Exact(Vec<u64>),
    /// Counts per bucket, by bucket, none zero.
    Buckets(Vec<(u16, u64)>),
}

impl Default for Values {
    fn default() -> Self {
        Values::Exact(Vec::new())
    }
}

impl Sketch {
    /// Adds one duration.
    pub fn add(&mut self, value_us: u64) {
        self.widen(1, u128::from(value_us), value_us, value_us);
        match &mut self.values {
            Values::Exact(values) if values.len() < EXACT_MAX => values.push(value_us),
            _ => add_to(self.buckets(), bucket_of(value_us), 1),
        }
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Sketch) {
        if other.count == 0 {
            return;
        }
        self.widen(other.count, other.sum_us, other.min_us, other.max_us);
        match (&mut self.values, &other.values) {
            (Values::Exact(mine), Values::Exact(theirs)) if mine.len() + theirs.len() <= EXACT_MAX => {
                mine.extend_from_slice(theirs);
            }
            (_, Values::Exact(theirs)) => {
                let buckets = self.buckets();
                theirs.iter().for_each(|&value| add_to(buckets, bucket_of(value), 1));
            }
            (_, Values::Buckets(theirs)) => {
                let mine = std::mem::take(self.buckets());
                *self.buckets() = merge_sorted(&mine, theirs);
            }
        }
    }

    fn widen(&mut self, count: u64, sum_us: u128, min_us: u64, max_us: u64) {
        self.min_us = if self.count == 0 { min_us } else { self.min_us.min(min_us) };
        self.max_us = self.max_us.max(max_us);
        self.count += count;
        self.sum_us += sum_us;
    }

    /// The bucket form, converted to on first use.
    fn buckets(&mut self) -> &mut Vec<(u16, u64)> {
        if let Values::Exact(values) = &mut self.values {
            let mut values = std::mem::take(values);
            values.sort_unstable();
            let mut buckets: Vec<(u16, u64)> = Vec::new();
            for bucket in values.into_iter().map(bucket_of) {
                match buckets.last_mut() {
                    Some((last, count)) if *last == bucket => *count += 1,
                    _ => buckets.push((bucket, 1)),
                }
            }
            self.values = Values::Buckets(buckets);
        }
        match &mut self.values {
            Values::Buckets(buckets) => buckets,
            Values::Exact(_) => unreachable!("converted just above"),
        }
    }

    /// Brings the sketch into its one canonical form. Call before comparing or encoding.
    pub fn settle(&mut self) {
        if let Values::Exact(values) = &mut self.values {
            values.sort_unstable();
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Exact sum in µs.
    pub fn sum_us(&self) -> u128 {
        self.sum_us
    }

    /// Smallest value in µs; `None` without values.
    pub fn min_us(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_us)
    }

    /// Greatest value in µs; `None` without values.
    pub fn max_us(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_us)
    }

    /// Nearest-rank percentile in µs, `percent` in 1..=100: the value of rank ceil(p·n). `None` without values.
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100) as u64;
        match &self.values {
            _ if self.count == 0 => None,
            Values::Exact(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                sorted.get(rank as usize - 1).copied()
            }
            Values::Buckets(buckets) => {
                let mut seen = 0;
                let (bucket, _) = buckets.iter().find(|(_, count)| {
                    seen += count;
                    seen >= rank
                })?;
                Some(bucket_top(*bucket).min(self.max_us))
            }
        }
    }
}

fn add_to(buckets: &mut Vec<(u16, u64)>, bucket: u16, count: u64) {
    match buckets.binary_search_by_key(&bucket, |&(b, _)| b) {
        Ok(at) => buckets[at].1 += count,
        Err(at) => buckets.insert(at, (bucket, count)),
    }
}

fn merge_sorted(left: &[(u16, u64)], right: &[(u16, u64)]) -> Vec<(u16, u64)> {
    let mut merged: Vec<(u16, u64)> = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let Some(&(bucket, count)) = match (left.peek(), right.peek()) {
        (Some(l), Some(r)) if l.0 <= r.0 => left.next(),
        (Some(_), None) => left.next(),
        _ => right.next(),
    } {
        match merged.last_mut() {
            Some((last, sum)) if *last == bucket => *sum += count,
            _ => merged.push((bucket, count)),
        }
    }
    merged
}

/// HDR layout, 2 significant digits: values below 256 have their own bucket, above that 128 buckets for each power of two.
fn bucket_of(value_us: u64) -> u16 {
    if value_us < 256 {
        return value_us as u16;
    }
    let shift = value_us.ilog2() - 7;
    (shift * 128) as u16 + (value_us >> shift) as u16
}

/// The greatest value of a bucket.
fn bucket_top(bucket: u16) -> u64 {
    if bucket < 256 {
        return u64::from(bucket);
    }
    let shift = u64::from(bucket) / 128 - 1;
    ((u64::from(bucket) - shift * 128 + 1) << shift) - 1
}

/// Number of distinct values: exact up to 128, then HyperLogLog with 2^14 registers (standard error 0.81 %, within 3 %).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distinct {
    /// The 64-bit hashes themselves, sorted.
    Exact(Vec<u64>),
    /// Registers that are not zero, by index.
    Sparse(Vec<(u16, u8)>),
    /// All registers, once an eighth of them is used.
    Dense(Vec<u8>),
}

const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// The form depends on the content alone, so that equal content has equal bytes.
const SPARSE_MAX: usize = REGISTERS / 8;

impl Default for Distinct {
    fn default() -> Self {
        Distinct::Exact(Vec::new())
    }
}

impl Distinct {
    /// Adds a value by its text.
    pub fn add(&mut self, value: &str) {
        self.add_hash(xxhash_rust::xxh3::xxh3_64(value.as_bytes()));
    }

    fn add_hash(&mut self, hash: u64) {
        match self {
            Distinct::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT_MAX {
                        let hashes = std::mem::take(hashes);
                        *self = Distinct::Sparse(Vec::new());
                        hashes.into_iter().for_each(|hash| self.add_hash(hash));
                    }
                }
            }
            _ => {
                let (register, rank) = register_of(hash);
                self.raise(register, rank);
            }
        }
    }

    fn raise(&mut self, register: u16, rank: u8) {
        match self {
            Distinct::Dense(ranks) => {
                let current = &mut ranks[register as usize];
                *current = rank.max(*current);
            }
            Distinct::Sparse(ranks) => match ranks.binary_search_by_key(&register, |&(r, _)| r) {
                Ok(at) => ranks[at].1 = ranks[at].1.max(rank),
                Err(at) => {
                    ranks.insert(at, (register, rank));
                    if ranks.len() > SPARSE_MAX {
                        let mut dense = vec![0; REGISTERS];
                        ranks.iter().for_each(|&(r, rank)| dense[r as usize] = rank);
                        *self = Distinct::Dense(dense);
                    }
                }
            },
            Distinct::Exact(_) => unreachable!("only the register forms are raised"),
        }
    }

    /// Adds all values of another set.
    pub fn merge(&mut self, other: &Distinct) {
        match other {
            Distinct::Exact(hashes) => hashes.iter().for_each(|&hash| self.add_hash(hash)),
            registers => {
                if let Distinct::Exact(hashes) = self {
                    let hashes = std::mem::take(hashes);
                    *self = registers.clone();
                    hashes.into_iter().for_each(|hash| self.add_hash(hash));
                } else {
                    registers.each_register(|register, rank| self.raise(register, rank));
                }
            }
        }
    }

    fn each_register(&self, mut visit: impl FnMut(u16, u8)) {
        match self {
            Distinct::Exact(_) => {}
            Distinct::Sparse(ranks) => ranks.iter().for_each(|&(register, rank)| visit(register, rank)),
            Distinct::Dense(ranks) => ranks.iter().enumerate().for_each(|(register, &rank)| {
                if rank > 0 {
                    visit(register as u16, rank);
                }
            }),
        }
    }

    /// The number of distinct values, or its estimate beyond 128.
    pub fn count(&self) -> u64 {
        match self {
            Distinct::Exact(hashes) => hashes.len() as u64,
            _ => self.estimate().round() as u64,
        }
    }

    /// O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6: no bias over the whole range.
    fn estimate(&self) -> f64 {
        const RANK_MAX: usize = 64 - PRECISION as usize + 1;
        let mut histogram = [0u32; RANK_MAX + 1];
        let mut used = 0;
        self.each_register(|_, rank| {
            histogram[rank as usize] += 1;
            used += 1;
        });
        histogram[0] = REGISTERS as u32 - used;
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(histogram[RANK_MAX]) / m);
        for &count in histogram[1..RANK_MAX].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        m * m / (2.0 * std::f64::consts::LN_2) / z
    }
}

fn register_of(hash: u64) -> (u16, u8) {
    let register = (hash >> (64 - PRECISION)) as u16;
    let rank = (hash << PRECISION).leading_zeros().min(64 - PRECISION) + 1;
    (register, rank as u8)
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|v| sketch.add(v));
        sketch.settle();
        sketch
    }

    #[test]
    fn percentiles_are_nearest_rank_up_to_128_values() {
        let s = sketch((1..=100).map(|v| v * 1_000_003));
        assert_eq!(s.percentile_us(50), Some(50 * 1_000_003));
        assert_eq!(s.percentile_us(95), Some(95 * 1_000_003));
        assert_eq!(s.percentile_us(99), Some(99 * 1_000_003));
        assert_eq!(sketch([1, 2]).percentile_us(50), Some(1));
        assert_eq!(sketch([]).percentile_us(50), None);
    }

    #[test]
    fn buckets_agree_with_the_hdr_histogram_library() {
        let mut hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 2_592_000_000_000, 2).unwrap();
        let values: Vec<u64> = (0..4000u64)
            .map(|i| (i * i * i * 7_919) % 2_592_000_000_000 >> (i % 40))
            .map(|v| v.max(1))
            .collect();
        values.iter().for_each(|&v| hdr.record(v).unwrap());
        for &value in &values {
            assert_eq!(bucket_top(bucket_of(value)), hdr.highest_equivalent(value), "value {value}");
        }
        let s = sketch(values);
        for percent in [50, 95, 99] {
            let library = hdr.value_at_quantile(percent as f64 / 100.0).min(s.max_us().unwrap());
            assert_eq!(s.percentile_us(percent), Some(library));
        }
    }

    #[test]
    fn the_switch_depends_on_the_number_of_values_only() {
        let values: Vec<u64> = (0..300u64).map(|i| i * 7_777_777 % 1_000_003).collect();
        let whole = sketch(values.iter().copied());
        for cut in [1, 100, 128, 129, 250] {
            let mut left = sketch(values[..cut].iter().copied());
            left.merge(&sketch(values[cut..].iter().copied()));
            left.settle();
            assert_eq!(left, whole, "cut at {cut}");
        }
        assert!(matches!(sketch(0..128).values, Values::Exact(_)));
        assert!(matches!(sketch(0..129).values, Values::Buckets(_)));
    }

    #[test]
    fn distinct_counts_are_exact_then_within_three_percent() {
        let mut set = Distinct::default();
        for i in 0..200_000u64 {
            set.add(&format!("workflow-{i}"));
            set.add(&format!("workflow-{i}"));
            let n = i + 1;
            if n <= EXACT_MAX as u64 {
                assert_eq!(set.count(), n);
            } else if n % 997 == 0 || n < 1000 {
                assert!(set.count().abs_diff(n) * 100 <= 3 * n, "{} for {n}", set.count());
            }
        }
    }

    #[test]
    fn distinct_sets_merge_in_any_order() {
        let set = |range: std::ops::Range<u64>| {
            let mut set = Distinct::default();
            range.for_each(|i| set.add(&i.to_string()));
            set
        };
        for total in [100, 129, 1000, 5000] {
            let whole = set(0..total);
            for cut in [1, total / 3, total - 1] {
                let (mut a, mut b) = (set(0..cut), set(cut..total));
                let left = b.clone();
                b.merge(&a);
                a.merge(&left);
                assert_eq!((&a, &b), (&whole, &whole), "{cut} of {total}");
            }
        }
    }
}
