//! Partitions: the unit in which the events of a mesh are shared out.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of a mesh, for its whole life: changing it would move keys.
pub const PARTITIONS: u16 = 64;

/// One of the [`PARTITIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition(u16);

impl Partition {
    /// The partition of a key: XXH3-64 (seed 0) of its UTF-8, modulo [`PARTITIONS`].
    ///
    /// The key is the event's `partitionkey`, else its `id`.
    pub fn of(key: &str) -> Self {
        // The remainder is below 64, so the conversion cannot cut anything off.
        Self((xxh3_64(key.as_bytes()) % u64::from(PARTITIONS)) as u16)
    }

    /// Its number, from 0.
    pub fn number(self) -> u16 {
        self.0
    }

    /// All partitions of shard `shard` out of `shards`.
    ///
    /// `shards` divides [`PARTITIONS`]; partition p belongs to shard p mod `shards`.
    pub fn of_shard(shard: u16, shards: u16) -> impl Iterator<Item = Self> {
        (0..PARTITIONS).filter(move |number| number % shards == shard).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anyone who computes partitions in another language checks against these.
    #[test]
    fn the_partition_of_a_key_matches_the_published_vectors() {
        let vectors = [("", 2), ("1", 24), ("user-1", 9), ("größe", 44)];
        let found: Vec<_> = vectors.iter().map(|(key, _)| Partition::of(key).number()).collect();
        let wanted: Vec<_> = vectors.iter().map(|(_, number)| *number).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_shards_share_out_every_partition_exactly_once() {
        for shards in [1, 2, 4, 8, 16, 32, 64] {
            let mut all: Vec<_> = (0..shards)
                .flat_map(|shard| Partition::of_shard(shard, shards))
                .map(Partition::number)
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..PARTITIONS).collect::<Vec<_>>(), "{shards} shards");
        }
    }
}
