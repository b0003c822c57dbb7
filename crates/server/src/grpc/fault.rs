//! What goes wrong over gRPC: a status with the details of `google.rpc`, which say what problem JSON says over HTTP.

use std::{collections::HashMap, time::Duration};

use tickwire_market::{LatestError, SymbolError, decode::BodyError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    admission::Refused,
    auth::AuthError,
    follow::{Ended, FollowError},
    telemetry,
};

/// What the log says of a call that a limit, or the node's end, turns away.
const CALL_REFUSED: &str = "a call is refused";

/// The `domain` of every `ErrorInfo`.
pub(super) const DOMAIN: &str = "tickwire";

/// After so long the same call may succeed, as `Retry-After` says over HTTP.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is not what the client wanted.
#[derive(Debug)]
pub(super) struct Fault {
    code: Code,
    message: String,
    /// The stable code of `docs/codes.md`; what the transport refuses has none.
    reason: Option<&'static str>,
    /// The field of the request that is wrong.
    field: Option<&'static str>,
    /// The limit that is reached, by its key in the configuration.
    quota: Option<&'static str>,
    /// When the same call may succeed.
    retry: Option<Duration>,
    metadata: Vec<(&'static str, String)>,
}

impl Fault {
    /// A fault with a stable code; the message says what was seen, what was expected and what to change.
    pub(super) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, reason: Some(reason), field: None, quota: None, retry: None, metadata: Vec::new() }
    }

    /// INVALID_ARGUMENT: this field of the request is wrong.
    pub(super) fn field(field: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(Code::InvalidArgument, reason, message) }
    }

    /// RESOURCE_EXHAUSTED: this key of the configuration is the limit.
    pub(super) fn quota(key: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { quota: Some(key), ..Self::new(Code::ResourceExhausted, reason, message) }
    }

    /// UNAVAILABLE: the node is going away.
    pub(super) fn draining() -> Self {
        let fault =
            Self::new(Code::Unavailable, "draining", "the node is being drained; another one answers").retryable();
        telemetry::refused("draining", CALL_REFUSED, &fault.message);
        fault
    }

    /// DEADLINE_EXCEEDED: the time that the client has set is over.
    pub(super) fn deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "deadline_exceeded", "the deadline that the call has set is over")
    }

    /// INTERNAL: a fault of ours.
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "internal", "something went wrong in the server, which its log tells")
    }

    /// Other credentials would help, these lack a right, or nobody can tell at the moment.
    fn denied(cause: &AuthError, message: String) -> Self {
        crate::access::note_denied(cause);
        match cause.status().as_u16() {
            401 => Self::new(Code::Unauthenticated, cause.code(), message),
            403 => Self::new(Code::PermissionDenied, cause.code(), message),
            _ => Self::new(Code::Unavailable, cause.code(), message).retryable(),
        }
    }

    /// The same may succeed in a moment.
    fn retryable(self) -> Self {
        Self { retry: Some(RETRY_AFTER), ..self }
    }

    /// Adds words to the message, and their value to what programs read.
    pub(super) fn telling(mut self, words: &str, name: &'static str, value: String) -> Self {
        self.message = format!("{}; {words}", self.message);
        self.metadata.push((name, value));
        self
    }
}

/// What the transport says: mostly that the client is gone.
impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        if status.code() == Code::OutOfRange {
            // tonic's code for a message above the limit; the other implementations of gRPC have agreed on this one.
            let limit = super::MESSAGE_BYTES_MAX;
            let message = format!("{}; a message has at most {limit} bytes: send several", status.message());
            telemetry::refused("body_too_large", CALL_REFUSED, &message);
            return Self::new(Code::ResourceExhausted, "body_too_large", message);
        }
        let message = status.message().to_owned();
        Self { reason: None, ..Self::new(status.code(), "", message) }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let Fault { code, message, reason, field, quota, retry, metadata } = fault;
        let Some(reason) = reason else { return Self::new(code, message) };
        let mut details = ErrorDetails::new();
        let metadata: HashMap<_, _> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        details.set_error_info(reason, DOMAIN, metadata);
        if let Some(field) = field {
            details.add_bad_request_violation(field, message.as_str());
        }
        if let Some(quota) = quota {
            details.add_quota_failure_violation(quota, message.as_str());
        }
        if retry.is_some() {
            details.set_retry_info(retry);
        }
        Self::with_error_details(code, message, details)
    }
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        Self::denied(&error, message)
    }
}

impl From<FollowError> for Fault {
    fn from(error: FollowError) -> Self {
        let (reason, message) = (error.code(), error.to_string());
        match error {
            FollowError::Denied { ref cause, .. } => Self::denied(cause, message),
            FollowError::UnknownSymbol { .. } | FollowError::Unmatched { .. } => {
                Self::new(Code::NotFound, reason, message)
            }
            FollowError::TooManyStreams => Self::quota("limits.connections", reason, message).retryable(),
            FollowError::NoTopic | FollowError::TooMany { .. } => Self::field("topics", reason, message),
        }
    }
}

/// Somebody may not come in, for now.
impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let fault = Fault::quota(refused.key(), refused.code(), refused.detail());
        Fault { retry: Some(Duration::from_secs(refused.retry_seconds())), ..fault }.into()
    }
}

impl From<SymbolError> for Fault {
    fn from(error: SymbolError) -> Self {
        Self::field("symbol", "invalid_symbol", error.to_string())
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        Self::field("quotes", error.code(), error.to_string())
    }
}

impl From<LatestError> for Fault {
    fn from(error: LatestError) -> Self {
        match error {
            LatestError::UnknownSymbol => Self::new(Code::NotFound, "unknown_symbol", "nobody has quoted this symbol"),
            LatestError::OwnerUnreachable => {
                Self::new(Code::Unavailable, "owner_unreachable", error.to_string()).retryable()
            }
        }
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Crashed => Self::internal(),
            Ended::SlowConsumer => Self::new(
                Code::ResourceExhausted,
                ended.as_str(),
                "slow_consumer: more messages wait than may be left out of none",
            ),
            Ended::TokenExpired => {
                Self::new(Code::Unauthenticated, ended.as_str(), "token_expired: get a new token and call again")
            }
            Ended::Shutdown => {
                Self::new(Code::Unavailable, ended.as_str(), "shutdown: the node is being drained; another one answers")
                    .retryable()
            }
        }
    }
}
