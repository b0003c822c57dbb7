//! Why somebody is refused. Each reason has a stable code, listed in `docs/codes.md`.

use http::StatusCode;

use crate::config::Scope;

/// Why a credential or a wish is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It needs a credential, and none was presented.
    #[error("this needs {needed}, and none was presented")]
    Unauthorized {
        /// What would do.
        needed: &'static str,
    },
    /// The `Authorization` header has another scheme.
    #[error("the Authorization header is not understood; it reads: Bearer KEY-OR-TOKEN")]
    NotBearer,
    /// No such API key.
    #[error("this API key is not known here; compare it with the server's [[auth.key]]")]
    KeyUnknown,
    /// An API key after its end.
    #[error("this API key has expired; put a new one into the server's [[auth.key]]")]
    KeyExpired,
    /// A token, while no key to verify it is configured.
    #[error("this server takes no tokens; set auth.jwt.hs256_secret, pem_file, jwks_file or jwks_url on it")]
    TokensOff,
    /// The keys to verify it with are still on their way.
    #[error("the keys that verify this token have not been fetched yet; try again in a moment")]
    KeysUnavailable,
    /// A token after its end.
    #[error("the token has expired; get a new one and connect again")]
    TokenExpired,
    /// A token that cannot be accepted at all.
    #[error("the token is not valid: {0}")]
    TokenInvalid(#[from] TokenFault),
    /// A known principal without the right.
    #[error("not allowed: {0}")]
    Forbidden(Missing),
}

/// The right that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The token's `allow` does not cover the topic.
    #[error("the token's claim \"allow\" does not cover this topic")]
    Join,
    /// The token's `publish` does not cover the topic.
    #[error("the token's claim \"publish\" does not cover this topic")]
    Send,
    /// The topic takes nothing from clients.
    #[error("clients may not send on this topic")]
    Closed,
    /// A scope.
    #[error("the API key lacks the scope \"{}\"", .0.name())]
    Scope(Scope),
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not three parts of base64url with JSON in them.
    #[error("it is not a signed JSON web token")]
    Malformed,
    /// Longer than any token may be.
    #[error("it has {seen} bytes, expected at most {max}; sign one with fewer or shorter patterns")]
    TooLong {
        /// Its bytes.
        seen: usize,
        /// Those that it may have.
        max: usize,
    },
    /// The header names an algorithm that the key is not for.
    #[error("it is signed with {seen:?}, expected {expected}")]
    Algorithm {
        /// What the header names.
        seen: String,
        /// Those that there are keys for.
        expected: String,
    },
    /// The header asks for what we do not do (RFC 7515 §4.1.11).
    #[error("its header has \"crit\" or \"b64\", extensions that this server does not know")]
    Critical,
    /// The header names a key that we do not have.
    #[error(
        "it is signed with the key {kid:?}, which this server does not have; compare its kid with those of the server's keys"
    )]
    KeyUnknown {
        /// The name.
        kid: String,
    },
    /// Somebody else signed it, or it was changed.
    #[error("its signature is not made with this server's secret or keys")]
    Signature,
    /// A claim is not there.
    #[error("its claim {0:?} is missing")]
    ClaimMissing(&'static str),
    /// A claim has a value that cannot be used.
    #[error("its claim {claim:?} {expected}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What is wrong with it.
        expected: &'static str,
    },
    /// Claims of the wrong type.
    #[error(
        "its claims have the wrong types: exp and nbf are numbers, sub and iss texts, aud a text or a list, allow and publish lists of texts"
    )]
    Claims,
    /// The claim `nbf` is in the future.
    #[error("it is not valid yet; compare the clocks of its signer and this server")]
    TooEarly,
}

impl AuthError {
    /// Every code, for tables and tests.
    pub const CODES: [&str; 7] = [
        "unauthorized",
        "key_invalid",
        "key_expired",
        "token_expired",
        "token_invalid",
        "keys_unavailable",
        "forbidden",
    ];

    /// The stable code, which clients may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } | Self::NotBearer => "unauthorized",
            Self::KeyUnknown => "key_invalid",
            Self::KeyExpired => "key_expired",
            Self::TokenExpired => "token_expired",
            Self::TokensOff | Self::TokenInvalid(_) => "token_invalid",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Forbidden(_) => "forbidden",
        }
    }

    /// The HTTP status that goes with it: 401 where other credentials would help, 403 where it is these that lack a right, 503 where the
    /// same ones may do later.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}
