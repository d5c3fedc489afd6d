//! The ring of the last counted event ids of one source partition.

use crate::event::Kind;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// 128-bit hash (XXH3) of an event's kind and id. Two different ids share one with probability 2⁻¹²⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventHash(pub u128);

impl EventHash {
    /// The hash of an id among the events of its kind.
    pub fn new(kind: Kind, event_id: &str) -> EventHash {
        EventHash(xxhash_rust::xxh3::xxh3_128_with_seed(event_id.as_bytes(), kind as u64))
    }
}

/// The last `capacity` counted ids, oldest dropped first.
#[derive(Debug, Clone)]
pub struct Ring {
    capacity: usize,
    /// Slots, filled in order and then overwritten from `oldest` on.
    ids: Vec<EventHash>,
    oldest: usize,
    /// Slot numbers by id.
    slots: HashTable<u32>,
    hasher: FixedState,
}

impl Ring {
    /// An empty ring; `capacity` is 1 to 2³², beyond that 2³².
    pub fn new(capacity: usize) -> Ring {
        let capacity = capacity.clamp(1, 1 << 32);
        Ring { capacity, ids: Vec::new(), oldest: 0, slots: HashTable::new(), hasher: FixedState::default() }
    }

    /// Whether the id is among the last `capacity` counted ones.
    pub fn contains(&self, id: EventHash) -> bool {
        self.slots.find(self.hasher.hash_one(id), |&slot| self.ids[slot as usize] == id).is_some()
    }

    /// Adds a counted id, dropping the oldest if the ring is full. The id must not be in the ring.
    pub fn push(&mut self, id: EventHash) {
        let slot = if self.ids.len() < self.capacity {
            self.ids.push(id);
            self.ids.len() - 1
        } else {
            let slot = self.oldest;
            let dropped = std::mem::replace(&mut self.ids[slot], id);
            let hash = self.hasher.hash_one(dropped);
            if let Ok(entry) = self.slots.find_entry(hash, |&other| other as usize == slot) {
                entry.remove();
            }
            self.oldest = (slot + 1) % self.capacity;
            slot
        };
        let (hasher, ids) = (&self.hasher, &self.ids);
        self.slots
            .insert_unique(hasher.hash_one(id), slot as u32, |&slot| hasher.hash_one(ids[slot as usize]));
    }

    /// Number of ids in the ring.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the ring holds no id.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_remembers_exactly_its_capacity() {
        let mut ring = Ring::new(100);
        for i in 0..1000u128 {
            assert!(!ring.contains(EventHash(i)));
            ring.push(EventHash(i));
            assert_eq!(ring.len() as u128, (i + 1).min(100));
            for old in i.saturating_sub(150)..=i {
                assert_eq!(ring.contains(EventHash(old)), i - old < 100, "{old} at {i}");
            }
        }
    }

    #[test]
    fn an_id_counts_within_its_kind() {
        assert_ne!(EventHash::new(Kind::Started, "a"), EventHash::new(Kind::Failed, "a"));
        assert_eq!(EventHash::new(Kind::Failed, "a"), EventHash::new(Kind::Failed, "a"));
    }
}
