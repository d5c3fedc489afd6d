//! Events added up per span, grouping and group. The reducer's spans are slices; `aggregate` adds straight into windows.

use super::cell::{BadBlob, Cell};
use super::group::{Buckets, Grouping, OTHER};
use crate::event::Event;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How events are grouped: the contract's part of the meaning of the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groupings {
    /// In the contract's order.
    pub list: Vec<Grouping>,
    /// For each of `list`: values that always have their own record.
    pub listed: Vec<BTreeSet<String>>,
    /// Bounds of the quality and cost buckets.
    pub buckets: Buckets,
    /// `MAX_GROUPS`: values per window and grouping that have their own record, at least 1.
    pub groups_max: usize,
}

impl Groupings {
    /// These groupings with default buckets and no listed values.
    pub fn of(list: Vec<Grouping>, groups_max: usize) -> Groupings {
        let listed = vec![BTreeSet::new(); list.len()];
        Groupings { list, listed, buckets: Buckets::default(), groups_max: groups_max.max(1) }
    }

    /// Whether a new value may have its own cell beside `present` others.
    pub fn admits(&self, grouping: usize, value: &str, present: usize) -> bool {
        present < self.groups_max || value == OTHER || self.listed[grouping].contains(value)
    }
}

type Groups = std::collections::HashMap<Box<str>, Cell, FixedState>;

/// The sums since the last [`Accumulator::drain`].
#[derive(Debug, Clone)]
pub struct Accumulator {
    groupings: Groupings,
    /// By start of the span, seconds; one map per grouping.
    spans: BTreeMap<i64, Vec<Groups>>,
}

/// One group's sums over one span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Start of the span, seconds since the Unix epoch.
    pub start_s: i64,
    /// Index into the groupings.
    pub grouping: u16,
    /// The group.
    pub group_key: Box<str>,
    /// Its sums.
    pub cell: Cell,
}

impl Accumulator {
    /// An empty one.
    pub fn new(groupings: Groupings) -> Accumulator {
        Accumulator { groupings, spans: BTreeMap::new() }
    }

    /// The groupings it was made with.
    pub fn groupings(&self) -> &Groupings {
        &self.groupings
    }

    /// Adds an event to the span that begins at `start_s`, in every grouping it contributes to.
    pub fn add(&mut self, start_s: i64, event: &Event<'_>) {
        let Accumulator { groupings, spans } = self;
        let count = groupings.list.len();
        let span = spans.entry(start_s).or_insert_with(|| vec![Groups::default(); count]);
        for (index, (grouping, groups)) in groupings.list.iter().zip(span).enumerate() {
            let Some(value) = grouping.value(event, &groupings.buckets) else { continue };
            let present = groups.len();
            let cell = match groups.get_mut(value.as_ref()) {
                Some(cell) => cell,
                None if groupings.admits(index, &value, present) => groups.entry(value.into()).or_default(),
                None => groups.entry(OTHER.into()).or_default(),
            };
            cell.add(grouping, event, groupings.groups_max);
        }
    }

    /// Takes everything out, ordered by span, grouping and group.
    pub fn drain(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for (start_s, groupings) in std::mem::take(&mut self.spans) {
            for (grouping, groups) in groupings.into_iter().enumerate() {
                let from = deltas.len();
                deltas.extend(groups.into_iter().map(|(group_key, mut cell)| {
                    cell.settle();
                    Delta { start_s, grouping: grouping as u16, group_key, cell }
                }));
                deltas[from..].sort_by(|a: &Delta, b| a.group_key.cmp(&b.group_key));
            }
        }
        deltas
    }

    /// Whether nothing was added since the last drain.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// Version of the encoded deltas, their first byte.
const FORMAT: u8 = 1;

/// The stored form of drained deltas.
pub fn encode_deltas(deltas: &[Delta]) -> Vec<u8> {
    postcard::to_extend(deltas, vec![FORMAT]).expect("deltas are plain data and the vector grows")
}

/// Reads the stored form; none from no bytes.
pub fn decode_deltas(bytes: &[u8]) -> Result<Vec<Delta>, BadBlob> {
    match bytes.split_first() {
        None => Ok(Vec::new()),
        Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| BadBlob(error.to_string())),
        Some((version, _)) => Err(BadBlob(format!("delta format {version}, this version reads {FORMAT}"))),
    }
}
