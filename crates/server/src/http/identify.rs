//! Who opens a socket or a session of long polling, and whether it may: the same for every transport.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use axum::http::{HeaderMap, StatusCode};
use tickwire_channels::{
    SocketInfo, WireFormat,
    handshake::{AuthToken, Params, Policy, ProtocolError, Protocols, Refusal},
};

use super::mount::Mount;
use crate::{
    access::{self, SocketOwner},
    admission::Refused,
    app::Node,
    auth::{Auth, AuthError, Principal, TokenFault},
    demo,
    listener::Connection,
    live::Live,
    telemetry,
};

/// A client that wants to connect, after its transport found nothing wrong with the request.
pub(super) struct Opening {
    /// Where it comes from.
    pub(super) connection: Connection,
    /// What it speaks.
    pub(super) format: WireFormat,
    /// Its query.
    pub(super) params: Params,
    /// Whether it outlives the connection, as a session of long polling does.
    pub(super) session: bool,
    /// The token that came in a way of its own: as a subprotocol, or in the header of a long poll.
    pub(super) auth_token: Option<AuthToken>,
}

/// Why a client may not connect.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    /// What it showed is not valid.
    #[error(transparent)]
    Credential(#[from] AuthError),
    /// There is no room for it.
    #[error("{}", .0.detail())]
    Limit(Refused),
    /// The playground refuses it, as it asked for.
    #[error("the demo endpoint refuses connections whose parameter `reject` is error or reason")]
    Demo,
}

impl Denied {
    /// The stable name, for metrics and `docs/codes.md`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Credential(error) => error.code(),
            Self::Limit(refused) => refused.code(),
            Self::Demo => "demo_reject",
        }
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Limit(refused) => refused.status(),
            Self::Credential(AuthError::KeysUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Credential(_) | Self::Demo => StatusCode::FORBIDDEN,
        }
    }

    /// Counts and logs it.
    pub(super) fn tell(&self, peer: SocketAddr) {
        match self {
            Self::Limit(refused) => refused.tell(peer),
            Self::Credential(_) | Self::Demo => log(self.code(), self),
        }
    }
}

/// What a mount asks of an upgrade.
pub(super) fn policy(mount: &Mount) -> Policy {
    let rules = &mount.rules;
    let protocols = Protocols { auth_token: rules.auth_token, own: rules.subprotocols.clone() };
    Policy { origins: rules.origins.clone(), protocols, compress: rules.compress }
}

/// Decides on a client, and says what its channels may know of it.
///
/// # Errors
/// If it may not connect.
pub(super) async fn open(
    node: &Node,
    mount: &Mount,
    headers: &HeaderMap,
    opening: Opening,
) -> Result<SocketInfo, Denied> {
    let live = node.live();
    let Opening { connection, format, params, session, auth_token } = opening;
    let principal = identify(&live, headers, &params, auth_token.as_ref()).await?;
    let mut info = SocketInfo::new(connection.peer, format, Arc::clone(&mount.limits));
    info.user = principal.user().map(|user| user.to_string());
    info.id = info.user.as_ref().map(|user| socket_id(user));
    info.expires_at = access::expiry(&principal);
    let permit = if session {
        node.door.admit_session(&connection, info.user.as_deref())
    } else {
        node.door.admit_socket(&connection, info.user.as_deref())
    };
    let mut owner = SocketOwner::new(principal, permit.map_err(Denied::Limit)?);
    if live.config.demo.enabled {
        match demo::connect(&params) {
            demo::Connect::Refuse => return Err(Denied::Demo),
            demo::Connect::Accept { id } => info.id = id.or(info.id),
        }
        owner = owner.showing(auth_token);
    }
    info.params = params;
    info.assigns = Arc::new(owner);
    Ok(info)
}

/// The name of a user's sockets.
fn socket_id(user: &str) -> String {
    format!("users_socket:{user}")
}

/// Whether a client shows anything at all that has to be verified.
pub(super) fn shows_credential(headers: &HeaderMap, params: &Params, auth_token: Option<&AuthToken>) -> bool {
    token_of(params, auth_token).is_some() || Auth::is_shown_by(headers)
}

/// The token that came in its own way, or as the parameter `token`.
fn token_of<'a>(params: &'a Params, auth_token: Option<&'a AuthToken>) -> Option<&'a str> {
    let shown = auth_token.map(AuthToken::expose).filter(|token| !token.is_empty());
    shown.or_else(|| params.get("token").filter(|token| !token.is_empty()))
}

/// Who opens it: by the token that came in its own way, by its parameter `token`, or by what a client that is no browser can put into its
/// headers.
async fn identify(
    live: &Live,
    headers: &HeaderMap,
    params: &Params,
    auth_token: Option<&AuthToken>,
) -> Result<Principal, AuthError> {
    let Some(token) = token_of(params, auth_token) else {
        return live.auth.identify_request(headers).await;
    };
    match live.auth.identify_bearer(token).await {
        // A playground takes any text for a token. Who shows one that means nothing here gets what somebody gets who shows none.
        Err(error) if live.config.demo.enabled && is_opaque(&error, live) => Ok(live.auth.stranger()),
        outcome => outcome,
    }
}

/// Whether a text is no credential that this node could know. Where its operator has configured keys for tokens, what has the form of one is
/// judged as anywhere.
fn is_opaque(error: &AuthError, live: &Live) -> bool {
    let jwt = &live.config.auth.jwt;
    let has_keys =
        jwt.hs256_secret.is_some() || !jwt.pem.is_empty() || jwt.jwks_file.is_some() || jwt.jwks_url.is_some();
    match error {
        AuthError::KeyUnknown
        | AuthError::TokensOff
        | AuthError::TokenInvalid(TokenFault::Malformed | TokenFault::TooLong { .. }) => true,
        AuthError::TokenInvalid(_) => !has_keys,
        _ => false,
    }
}

/// Counts and logs a refusal of the handshake, and names the key that would change it.
pub(super) fn log_handshake(refusal: &Refusal, mount: &Mount) {
    let Mount { key, rules, .. } = mount;
    let path = &rules.path;
    match refusal {
        Refusal::Origin(_) => {
            let cure = format_args!("if it is a page of yours, add it to {key}.origins (the mount {path:?})");
            log(refusal.code(), &format_args!("{refusal}; {cure}"));
        }
        Refusal::Protocol(ProtocolError::NotAllowed { .. }) => {
            let cure =
                format_args!("if a client of yours offers it, add it to {key}.subprotocols (the mount {path:?})");
            log(refusal.code(), &format_args!("{refusal}; {cure}"));
        }
        _ => log(refusal.code(), refusal),
    }
}

/// Counts and logs a refusal.
pub(super) fn log(code: &'static str, reason: &dyn Display) {
    telemetry::refused(code, "a socket is refused", reason);
}
