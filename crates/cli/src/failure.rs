//! How a command ends when it does not end well.

use std::{fmt, process::ExitCode};

/// Why a command failed; each kind has an exit code of its own, so that scripts can tell them apart.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and failed, or something was refused: 1.
    Failed(anyhow::Error),
    /// It has already said what was wrong: 1.
    Told,
    /// It cannot be tried: a wrong argument or configuration: 2.
    Usage(String),
    /// There is nobody to try it with: 3.
    Unreachable(String),
    /// Whoever read our output has gone. That is how a pipe ends, not an error: 0.
    OutputClosed,
}

impl Failure {
    pub(crate) fn failed(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::Failed(anyhow::Error::msg(message))
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Failed(_) | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        })
    }

    /// What to tell the user; nothing, if all has been said.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(format!("{error:#}")),
            Self::Usage(message) | Self::Unreachable(message) => Some(message.clone()),
            Self::Told | Self::OutputClosed => None,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<tickwire_client::ConnectError> for Failure {
    fn from(error: tickwire_client::ConnectError) -> Self {
        match error {
            tickwire_client::ConnectError::Refused { .. } => Self::failed(error),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;
