//! The four lifecycle events as the core sees them: already validated, in exact integer units.

use crate::aggregator::money::Fixed;
use std::borrow::Cow;

/// What happened to a workflow. Both vocabularies (`CODEGEN_*`, `NODE_GENERATION_*`) map to the same kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A generation began.
    Started,
    /// One stage of the pipeline ended, well or badly.
    StageCompleted,
    /// A generation ended with a result.
    Completed,
    /// A generation ended without one.
    Failed,
}

impl Kind {
    /// All kinds, in the order of the source topics.
    pub const ALL: [Kind; 4] = [Kind::Started, Kind::StageCompleted, Kind::Completed, Kind::Failed];

    /// The kind an `event_type` names, in either vocabulary (exact case), or `None`.
    pub fn from_event_type(name: &str) -> Option<Kind> {
        let rest = name.strip_prefix("CODEGEN_").or_else(|| name.strip_prefix("NODE_GENERATION_"))?;
        Some(match rest {
            "STARTED" => Kind::Started,
            "STAGE_COMPLETED" => Kind::StageCompleted,
            "COMPLETED" => Kind::Completed,
            "FAILED" => Kind::Failed,
            _ => return None,
        })
    }

    /// The `event_type` of this kind in the `CODEGEN_*` vocabulary.
    pub fn event_type(self) -> &'static str {
        match self {
            Kind::Started => "CODEGEN_STARTED",
            Kind::StageCompleted => "CODEGEN_STAGE_COMPLETED",
            Kind::Completed => "CODEGEN_COMPLETED",
            Kind::Failed => "CODEGEN_FAILED",
        }
    }
}

/// One accepted lifecycle event. Text is borrowed from the message where it needs no unescaping.
///
/// Fields that a kind does not have are `None`; `docs/semantics.md` says which kind reads which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// Identity for de-duplication; `None` is never a duplicate.
    pub event_id: Option<Cow<'a, str>>,
    /// Event time, µs since the Unix epoch (years 2000 to 2099).
    pub time_us: i64,
    /// The run this event belongs to.
    pub workflow_id: Cow<'a, str>,
    /// Node type (of STARTED: the hint).
    pub node_type: Option<Cow<'a, str>>,
    /// Application domain.
    pub domain: Option<Cow<'a, str>>,
    /// The language model that did the work.
    pub primary_model: Option<Cow<'a, str>>,
    /// `stage_name` of STAGE_COMPLETED, `failed_stage` of FAILED.
    pub stage: Option<Cow<'a, str>>,
    /// `error_code` of FAILED.
    pub error_code: Option<Cow<'a, str>>,
    /// Duration in µs, at most 30 days: total, of the stage, or the partial one of FAILED.
    pub duration_us: Option<u64>,
    /// Quality score, 0 to 1.
    pub quality: Option<Fixed>,
    /// Test coverage, 0 to 1.
    pub coverage: Option<Fixed>,
    /// Complexity, 0 to 10^12.
    pub complexity: Option<Fixed>,
    /// Tokens, at most 2^53.
    pub tokens: Option<u64>,
    /// Cost in USD, at most 10^12.
    pub cost: Option<Fixed>,
    /// `success` of STAGE_COMPLETED (absent is true).
    pub success: bool,
    /// `is_retryable` of FAILED (absent is false).
    pub retryable: bool,
    /// Number of `patterns_applied`.
    pub patterns: u64,
}
