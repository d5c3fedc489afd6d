//! What the daemon knows of itself: the state that health, readiness and status are answered from.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How well one dependency or part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Works.
    Healthy,
    /// Works with less, or is on its way back.
    Degraded,
    /// Does not work.
    Unhealthy,
}

/// A part's health with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it does.
    pub status: Health,
    /// Why, without any payload or secret.
    pub detail: String,
}

/// Where the reducer stands in one owned partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PartitionLag {
    /// Next offset to read, flushed or not.
    pub next_offset: i64,
    /// Messages in the log beyond it, when last looked at.
    pub lag_records: u64,
}

/// A snapshot of the process.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By part: kafka, store, reducer, recorder, publisher, executor, consul.
    pub checks: BTreeMap<&'static str, Check>,
    /// Whether the group has given us our partitions (or told us there are none) and the store is open.
    pub ready: bool,
    /// Monotonic time of the last flush (also an empty one), µs; `None` before the first.
    pub flushed_us: Option<i64>,
    /// Whether a rebalance is under way: that is no lack of progress.
    pub rebalancing: bool,
    /// Owned partitions, `topic[partition]`.
    pub partitions: BTreeMap<String, PartitionLag>,
}

/// Shared between the parts, which write, and HTTP, which reads.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    inner: Arc<Mutex<Snapshot>>,
}

impl Telemetry {
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A panic elsewhere leaves a whole snapshot behind: each change is one assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present state.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Sets a part's health; a change is logged once.
    pub fn check(&self, part: &'static str, status: Health, detail: impl Into<String>) {
        let check = Check { status, detail: detail.into() };
        let before = self.lock().checks.insert(part, check.clone());
        if before.as_ref().map(|b| b.status) == Some(status) {
            return;
        }
        match status {
            Health::Healthy => tracing::info!(part, detail = check.detail, "healthy"),
            Health::Degraded => tracing::warn!(part, detail = check.detail, "degraded"),
            Health::Unhealthy => tracing::error!(part, detail = check.detail, "unhealthy"),
        }
    }

    /// Changes the snapshot.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }
}
