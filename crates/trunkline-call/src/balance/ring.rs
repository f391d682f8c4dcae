//! Consistent hashing: a key has a place on a ring, and the instance that comes next on it gets the key's calls.

use std::cmp::Ordering;

/// Points of an instance of average weight. The more, the more even the shares: with 128 they differ by some 9 %.
const POINTS: u64 = 128;
/// No instance has more.
const POINTS_MAX: u64 = 1_024;

/// The same in every process, so that all callers agree: it depends on the addresses and weights alone.
#[derive(Debug)]
pub struct Ring {
    /// Where on the ring, and which instance.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of instances, each with its address and weight.
    pub fn new<'a>(instances: impl Iterator<Item = (&'a str, u16)> + Clone) -> Self {
        let count = instances.clone().count() as u64;
        let total: u64 = instances.clone().map(|(_, weight)| u64::from(weight)).sum();
        let mut points = Vec::new();
        for (index, (address, weight)) in (0_u32..).zip(instances) {
            let share = POINTS * u64::from(weight) * count / total.max(1);
            let start = hash(address.as_bytes());
            let places =
                (0..share.clamp(1, POINTS_MAX)).map(|point| (mix(start ^ mix(point)), index));
            points.extend(places);
        }
        points.sort_unstable();
        Self { points }
    }

    /// The instances in the order in which a key comes to them, some of them several times.
    pub fn after(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let place = hash(key);
        let first = self
            .points
            .partition_point(|(at, _)| at.cmp(&place) == Ordering::Less);
        let (before, after) = self.points.split_at_checked(first).unwrap_or_default();
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}

/// FNV-1a with a finish that spreads its bits: fast, and the same in every release. It is no secret, so who chooses
/// keys can choose an instance; the bound on its load is what protects it.
fn hash(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(start, step))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[(&'static str, u16)]) -> Ring {
        Ring::new(weights.iter().copied())
    }

    fn first(ring: &Ring, key: u32) -> usize {
        ring.after(&key.to_le_bytes()).next().unwrap()
    }

    #[test]
    fn a_hash_never_changes_between_releases() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(ring(&[("a:1", 1), ("b:1", 1)]).points.len(), 256);
    }

    #[test]
    fn one_that_leaves_takes_only_its_own_keys_along() {
        let four = ["a:1", "b:1", "c:1", "d:1"].map(|name| (name, 1));
        let all = ring(&four);
        let three = ring(&[four[0], four[1], four[3]]);
        let name = |index: usize| ["a", "b", "d"][index];
        let mut moved = 0;
        for key in 0..10_000 {
            let before = ["a", "b", "c", "d"][first(&all, key)];
            let after = name(first(&three, key));
            if before == "c" {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((1_900..3_100).contains(&moved), "{moved}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let ring = ring(&[("a:1", 1), ("b:1", 3)]);
        let heavy = (0..10_000).filter(|key| first(&ring, *key) == 1).count();
        assert!((7_000..8_000).contains(&heavy), "{heavy}");
        // Who weighs next to nothing is still there.
        let light = Ring::new([("a:1", 1), ("b:1", 1_000)].into_iter());
        assert!(light.after(b"x").any(|index| index == 0));
    }
}
