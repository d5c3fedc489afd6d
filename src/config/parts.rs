//! The settings that are more than one value or one word.

use std::collections::BTreeSet;
use std::fmt;

use super::fault::Cause;
use super::secret::Secret;

/// The real names of all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// CODEGEN_STARTED.
    pub started: String,
    /// CODEGEN_STAGE_COMPLETED.
    pub stage_completed: String,
    /// CODEGEN_COMPLETED.
    pub completed: String,
    /// CODEGEN_FAILED.
    pub failed: String,
    /// GENERATION_METRICS_RECORDED.
    pub metrics_recorded: String,
    /// Intents.
    pub intents: String,
    /// Dead letters.
    pub dead_letters: String,
}

impl Topics {
    /// The four that are read: started, stage completed, completed, failed.
    pub fn inputs(&self) -> [&str; 4] {
        [&self.started, &self.stage_completed, &self.completed, &self.failed]
    }

    /// All seven, in the order of [`crate::contract::ContractTopics::all`].
    pub fn all(&self) -> [&str; 7] {
        let [started, stage_completed, completed, failed] = self.inputs();
        [
            started,
            stage_completed,
            completed,
            failed,
            &self.metrics_recorded,
            &self.intents,
            &self.dead_letters,
        ]
    }
}

/// The Consul agent, spoken to over plain `http://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulConfig {
    /// Host of the agent.
    pub host: String,
    /// Port of the agent.
    pub port: u16,
    /// ACL token.
    pub token: Option<Secret>,
}

/// One part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Consumes, decodes and flushes.
    Reducer,
    /// Folds flushes into cells.
    Recorder,
    /// Relays the outbox to the coordination topic.
    Publisher,
    /// Carries out intents.
    Executor,
    /// Answers queries.
    Api,
}

impl Role {
    /// All roles, in the order of the data path.
    pub const ALL: [Role; 5] = [Role::Reducer, Role::Recorder, Role::Publisher, Role::Executor, Role::Api];

    /// The word for it in `ROLES`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reducer => "reducer",
            Role::Recorder => "recorder",
            Role::Publisher => "publisher",
            Role::Executor => "executor",
            Role::Api => "api",
        }
    }
}

/// The roles of one process, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Whether `role` is among them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether this process does everything.
    pub fn is_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    pub(super) fn parse(text: &str) -> Result<Roles, Cause> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Roles(Role::ALL.into()));
        }
        let role = |word: &str| {
            let word = word.trim();
            let found = Role::ALL.into_iter().find(|role| role.name().eq_ignore_ascii_case(word));
            found.ok_or_else(|| Cause::from(format!("{word:?} is no role")))
        };
        text.split(',').map(role).collect::<Result<_, _>>().map(Roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// What to do about a topic that was deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTopicRecreated {
    /// Halt its partitions and say so.
    Halt,
    /// Take them from their start, as a new incarnation.
    Restart,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
