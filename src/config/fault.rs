//! What can be wrong with the settings.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::contract::ContractFault;

/// Why a value will not do.
pub type Cause = Box<dyn Error + Send + Sync>;

/// One fault. Values of secrets never stand in it.
#[derive(Debug, Error)]
pub enum ConfigFault {
    /// Set to nothing, which is neither a value nor the default.
    #[error("{name} is set but empty: unset it, or give {allowed}")]
    Empty {
        /// The setting.
        name: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that is not allowed.
    #[error("{name}={value}: {cause}; allowed: {allowed}")]
    NotAllowed {
        /// The setting.
        name: String,
        /// The value as given, masked if secret.
        value: String,
        /// What is allowed.
        allowed: String,
        /// What is wrong with it.
        cause: Cause,
    },
    /// A secret given both as it is and as a file.
    #[error("{name} and {name}_FILE are both set: keep one")]
    Twice {
        /// The setting.
        name: String,
    },
    /// The file of a secret, or the contract, cannot be read.
    #[error("{name}={path}: the file cannot be read: {cause}", path = path.display())]
    File {
        /// The setting that names the file.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A name close to one of ours, or under one of our prefixes.
    #[error("{name} is not a setting: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The name that was probably meant, or what to do.
        hint: String,
    },
    /// A property of the Kafka client that the reducer sets itself.
    #[error("{name}: the property {property} is not yours to set: {reason}")]
    OwnedProperty {
        /// The variable.
        name: String,
        /// The property.
        property: String,
        /// Who sets it, or why it is fixed.
        reason: &'static str,
    },
    /// Settings that are each allowed, but not together.
    #[error("{given}: {rule}")]
    Pair {
        /// The settings with their values, masked if secret.
        given: String,
        /// What must hold between them.
        rule: String,
    },
    /// A fault of the contract that `CONTRACT_PATH` names.
    #[error("contract: {0}")]
    Contract(ContractFault),
}

/// All faults of the settings, at least one.
#[derive(Debug, Error)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults in the settings: {}", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
