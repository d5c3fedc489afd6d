//! The aggregate of one group over one span: a delta, a slice cell and a window cell are all this, and all merge by addition.

use super::group::{Grouping, OTHER, safe_value};
use super::money::Fixed;
use super::sketch::{Distinct, Sketch};
use crate::event::{Event, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the encoded form, its first byte.
const FORMAT: u8 = 1;

/// A sum and how many values are in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Total {
    /// Number of values.
    pub count: u64,
    /// Their sum, in the figure's unit.
    pub sum: i128,
}

impl Total {
    fn add(&mut self, value: i128) {
        self.count += 1;
        self.sum += value;
    }

    fn merge(&mut self, other: &Total) {
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// Smallest and greatest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extremes {
    /// Smallest.
    pub min: Fixed,
    /// Greatest.
    pub max: Fixed,
}

/// The sums of one model or node type in the maps of `time_window`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NamedCell {
    /// COMPLETED and FAILED.
    pub total: u64,
    /// FAILED.
    pub failed: u64,
    /// COMPLETED durations, µs.
    pub duration_us: Total,
    /// Quality scores, 10⁻¹².
    pub quality: Total,
    /// Tokens.
    pub tokens: Total,
    /// Cost, 10⁻¹² USD.
    pub cost: Total,
}

impl NamedCell {
    fn add(&mut self, event: &Event<'_>) {
        self.total += 1;
        if event.kind == Kind::Failed {
            self.failed += 1;
            return;
        }
        event.duration_us.inspect(|&us| self.duration_us.add(us.into()));
        event.quality.inspect(|score| self.quality.add(score.0));
        event.tokens.inspect(|&tokens| self.tokens.add(tokens.into()));
        event.cost.inspect(|cost| self.cost.add(cost.0));
    }
}

/// The figures of one stage in the maps of `time_window`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageCell {
    /// STAGE events.
    pub count: u64,
    /// Those with `success` false.
    pub failed: u64,
    /// Their durations.
    pub duration: Sketch,
    /// Their tokens.
    pub tokens: Total,
    /// Their cost, 10⁻¹² USD.
    pub cost: Total,
}

impl StageCell {
    fn add(&mut self, event: &Event<'_>) {
        self.count += 1;
        self.failed += u64::from(!event.success);
        event.duration_us.inspect(|&us| self.duration.add(us));
        event.tokens.inspect(|&tokens| self.tokens.add(tokens.into()));
        event.cost.inspect(|cost| self.cost.add(cost.0));
    }
}

/// What merges by addition.
pub trait Additive: Default {
    /// Adds `other`.
    fn merge(&mut self, other: &Self);
    /// The number of events in it: what the 100 shown entries of a map are chosen by.
    fn weight(&self) -> u64;
}

impl Additive for NamedCell {
    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.failed += other.failed;
        self.duration_us.merge(&other.duration_us);
        self.quality.merge(&other.quality);
        self.tokens.merge(&other.tokens);
        self.cost.merge(&other.cost);
    }

    fn weight(&self) -> u64 {
        self.total
    }
}

impl Additive for StageCell {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.failed += other.failed;
        self.duration.merge(&other.duration);
        self.tokens.merge(&other.tokens);
        self.cost.merge(&other.cost);
    }

    fn weight(&self) -> u64 {
        self.count
    }
}

impl Additive for u64 {
    fn merge(&mut self, other: &Self) {
        *self += other;
    }

    fn weight(&self) -> u64 {
        *self
    }
}

/// A map of at most `MAX_GROUPS` names; later ones share the entry `__other__`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<T>(pub BTreeMap<Box<str>, T>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(BTreeMap::new())
    }
}

impl<T: Additive> Named<T> {
    /// The entry of a name, or `__other__` if the name is new and the map is full.
    fn entry(&mut self, name: &str, groups_max: usize) -> &mut T {
        let name = if self.0.contains_key(name) || self.0.len() < groups_max { name } else { OTHER };
        if !self.0.contains_key(name) {
            self.0.insert(name.into(), T::default());
        }
        self.0.get_mut(name).expect("inserted just above")
    }

    fn merge(&mut self, other: &Named<T>, groups_max: usize) {
        other.0.iter().for_each(|(name, value)| self.entry(name, groups_max).merge(value));
    }
}

/// What only `time_window` keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Detail {
    /// By `stage_name`.
    pub stages: Named<StageCell>,
    /// By `primary_model`.
    pub models: Named<NamedCell>,
    /// By `node_type`.
    pub node_types: Named<NamedCell>,
    /// FAILED by `failed_stage`.
    pub failures_by_stage: Named<u64>,
    /// FAILED by `error_code`.
    pub failures_by_error_code: Named<u64>,
    /// Distinct `workflow_id`.
    pub workflows: Distinct,
}

/// The aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cell {
    /// All events.
    pub events: u64,
    /// STARTED.
    pub started: u64,
    /// COMPLETED (of a stage: successful).
    pub successful: u64,
    /// FAILED (of a stage: failed).
    pub failed: u64,
    /// Durations.
    pub duration: Sketch,
    /// Quality scores, 10⁻¹².
    pub quality: Total,
    /// Their extremes.
    pub quality_extremes: Option<Extremes>,
    /// Test coverage, 10⁻¹².
    pub coverage: Total,
    /// Complexity, 10⁻¹².
    pub complexity: Total,
    /// Tokens.
    pub tokens: Total,
    /// Cost, 10⁻¹² USD.
    pub cost: Total,
    /// Durations of FAILED, µs.
    pub wasted_us: Total,
    /// Tokens of FAILED.
    pub failed_tokens: Total,
    /// Cost of FAILED, 10⁻¹² USD.
    pub failed_cost: Total,
    /// FAILED that may be retried.
    pub retryable: u64,
    /// Patterns applied, over the COMPLETED that applied any.
    pub patterns: Total,
    /// The maps, in `time_window` only.
    pub detail: Option<Box<Detail>>,
}

/// A stored blob that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blob cannot be read: {0}")]
pub struct BadBlob(pub String);

impl Cell {
    /// Adds one event, seen from this grouping.
    pub fn add(&mut self, grouping: &Grouping, event: &Event<'_>, groups_max: usize) {
        self.events += 1;
        if *grouping == Grouping::TimeWindow {
            self.detail.get_or_insert_default().add(event, groups_max);
        }
        match event.kind {
            Kind::Started => self.started += 1,
            Kind::StageCompleted if *grouping == Grouping::Stage => self.add_stage(event),
            Kind::StageCompleted => {}
            Kind::Completed => self.add_completed(event),
            Kind::Failed => self.add_failed(event),
        }
    }

    fn add_stage(&mut self, event: &Event<'_>) {
        if event.success {
            self.successful += 1;
        } else {
            self.failed += 1;
        }
        event.duration_us.inspect(|&us| self.duration.add(us));
        event.tokens.inspect(|&tokens| self.tokens.add(tokens.into()));
        event.cost.inspect(|cost| self.cost.add(cost.0));
    }

    fn add_completed(&mut self, event: &Event<'_>) {
        self.successful += 1;
        event.duration_us.inspect(|&us| self.duration.add(us));
        if let Some(score) = event.quality {
            self.quality.add(score.0);
            self.widen(Extremes { min: score, max: score });
        }
        event.coverage.inspect(|coverage| self.coverage.add(coverage.0));
        event.complexity.inspect(|complexity| self.complexity.add(complexity.0));
        event.tokens.inspect(|&tokens| self.tokens.add(tokens.into()));
        event.cost.inspect(|cost| self.cost.add(cost.0));
        if event.patterns > 0 {
            self.patterns.add(event.patterns.into());
        }
    }

    fn add_failed(&mut self, event: &Event<'_>) {
        self.failed += 1;
        self.retryable += u64::from(event.retryable);
        event.duration_us.inspect(|&us| self.wasted_us.add(us.into()));
        event.tokens.inspect(|&tokens| self.failed_tokens.add(tokens.into()));
        event.cost.inspect(|cost| self.failed_cost.add(cost.0));
    }

    fn widen(&mut self, other: Extremes) {
        self.quality_extremes = Some(match self.quality_extremes {
            None => other,
            Some(mine) => Extremes { min: mine.min.min(other.min), max: mine.max.max(other.max) },
        });
    }

    /// Adds all events of another aggregate of the same group.
    pub fn merge(&mut self, other: &Cell, groups_max: usize) {
        self.events += other.events;
        self.started += other.started;
        self.successful += other.successful;
        self.failed += other.failed;
        self.duration.merge(&other.duration);
        self.quality.merge(&other.quality);
        other.quality_extremes.inspect(|&extremes| self.widen(extremes));
        self.coverage.merge(&other.coverage);
        self.complexity.merge(&other.complexity);
        self.tokens.merge(&other.tokens);
        self.cost.merge(&other.cost);
        self.wasted_us.merge(&other.wasted_us);
        self.failed_tokens.merge(&other.failed_tokens);
        self.failed_cost.merge(&other.failed_cost);
        self.retryable += other.retryable;
        self.patterns.merge(&other.patterns);
        if let Some(theirs) = &other.detail {
            self.detail.get_or_insert_default().merge(theirs, groups_max);
        }
    }

    /// Brings the cell into its one canonical form.
    pub fn settle(&mut self) {
        self.duration.settle();
        if let Some(detail) = &mut self.detail {
            detail.stages.0.values_mut().for_each(|stage| stage.duration.settle());
        }
    }

    /// The stored form: equal aggregates have equal bytes.
    pub fn encode(&mut self) -> Vec<u8> {
        self.settle();
        postcard::to_extend(self, vec![FORMAT]).expect("a cell is plain data and the vector grows")
    }

    /// Reads a stored form.
    pub fn decode(bytes: &[u8]) -> Result<Cell, BadBlob> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| BadBlob(error.to_string())),
            Some((version, _)) => Err(BadBlob(format!("cell format {version}, this version reads {FORMAT}"))),
            None => Err(BadBlob("empty cell".to_owned())),
        }
    }
}

impl Detail {
    fn add(&mut self, event: &Event<'_>, groups_max: usize) {
        self.workflows.add(&event.workflow_id);
        let stage = || safe_value(event.stage.as_deref());
        match event.kind {
            Kind::Started => return,
            Kind::StageCompleted => return self.stages.entry(&stage(), groups_max).add(event),
            Kind::Completed => {}
            Kind::Failed => {
                *self.failures_by_stage.entry(&stage(), groups_max) += 1;
                let code = safe_value(event.error_code.as_deref());
                *self.failures_by_error_code.entry(&code, groups_max) += 1;
            }
        }
        self.models.entry(&safe_value(event.primary_model.as_deref()), groups_max).add(event);
        self.node_types.entry(&safe_value(event.node_type.as_deref()), groups_max).add(event);
    }

    fn merge(&mut self, other: &Detail, groups_max: usize) {
        self.stages.merge(&other.stages, groups_max);
        self.models.merge(&other.models, groups_max);
        self.node_types.merge(&other.node_types, groups_max);
        self.failures_by_stage.merge(&other.failures_by_stage, groups_max);
        self.failures_by_error_code.merge(&other.failures_by_error_code, groups_max);
        self.workflows.merge(&other.workflows);
    }
}
