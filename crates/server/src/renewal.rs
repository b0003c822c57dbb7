//! A client shows a new token on a socket that is open: the event `access_token` on any topic it has joined, as supabase's clients send it.
//!
//! The new token's rights hold at once, for all that the socket does and receives; what it does not cover any more is ended.

use std::{sync::Arc, time::Instant};

use serde::Deserialize;
use serde_json::json;
use tickwire_channels::{Common, Context, Flow, Renewal, Router, Status};
use tickwire_pubsub::{Payload, Topic};

use crate::{
    access::{self, Gate, SocketOwner},
    auth::{Auth, AuthError, Principal, TopicPattern, unix_now},
    metrics, telemetry,
};

/// The event.
const EVENT: &str = "access_token";

/// Takes new tokens for the sockets of a node.
#[derive(Debug, Clone)]
pub(crate) struct Renewer {
    auth: Arc<Auth>,
    gates: Arc<[(TopicPattern, Gate)]>,
    /// Topics in front of those of the gates, which are none of its business.
    exempt: Router,
}

/// The event's payload. Other members are the client's business.
#[derive(Deserialize)]
struct Shown {
    access_token: Option<String>,
    token: Option<String>,
}

/// Why a socket does not go on with a token.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the payload holds no token; expected {{\"access_token\": \"…\"}}")]
    NoToken,
    #[error("too many tokens were tried on this socket; try again in a moment")]
    TooOften,
    #[error("the token names another user than the one that opened the socket; connect again with it")]
    AnotherUser,
    #[error(transparent)]
    Credential(#[from] AuthError),
}

impl Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "invalid_params",
            Self::TooOften => "busy",
            Self::AnotherUser => "user_mismatch",
            Self::Credential(error) => error.code(),
        }
    }
}

impl Renewer {
    /// Takes the tokens that `auth` does, and ends what these gates then close. Topics without a gate, and those that `exempt` routes, go
    /// on as if nothing had happened.
    pub(crate) fn new(auth: Arc<Auth>, gates: impl IntoIterator<Item = (TopicPattern, Gate)>, exempt: Router) -> Self {
        Self { auth, gates: gates.into_iter().collect(), exempt }
    }

    fn gate(&self, topic: &Topic) -> Option<&Gate> {
        if self.exempt.find(topic).is_some() {
            return None;
        }
        self.gates.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, gate)| gate)
    }

    /// What the socket goes on with.
    fn accept(&self, owner: &SocketOwner, token: &str, principal: Principal) -> Result<(Renewal, Payload), Refused> {
        if owner.principal().user() != principal.user() {
            return Err(Refused::AnotherUser);
        }
        let expires_at = access::expiry(&principal);
        let reply = accepted(principal.expires_at());
        let principal = owner.renew(principal, token);
        let renewer = self.clone();
        let keeps = move |topic: &Topic| {
            let covered = renewer.gate(topic).is_none_or(|gate| gate.check_join(&principal, topic).is_ok());
            if !covered {
                metrics::refused("rights_withdrawn");
            }
            covered
        };
        Ok((Renewal { expires_at, keeps: Box::new(keeps) }, reply))
    }

    fn take(&self, payload: &Payload, context: &mut Context<'_>) -> Result<(), Refused> {
        let socket = Arc::clone(context.socket());
        let owner = access::owner(&socket).ok_or(Refused::TooOften)?;
        let token = token_of(payload).ok_or(Refused::NoToken)?;
        // Clients send one token on each of their topics.
        if owner.has_shown(&token) {
            context.reply(Status::Ok, accepted(owner.principal().expires_at()));
            return Ok(());
        }
        if !owner.may_try(Instant::now()) {
            return Err(Refused::TooOften);
        }
        match self.auth.token_for_now(&token, unix_now()) {
            Ok(principal) => {
                let (renewal, reply) = self.accept(owner, &token, principal)?;
                context.reply(Status::Ok, reply);
                context.renew(renewal);
            }
            Err(unsure) if unsure.newer_keys_may_help => {
                let (renewer, handle) = (self.clone(), context.handle().clone());
                context.defer(async move {
                    let taken = match renewer.auth.identify_token(&token).await {
                        Err(error) => Err(error.into()),
                        Ok(principal) => match access::owner(&socket) {
                            Some(owner) => renewer.accept(owner, &token, principal),
                            None => Err(Refused::TooOften),
                        },
                    };
                    match taken {
                        Ok((renewal, reply)) => {
                            // A channel that has ended has a socket all the same, unless that has ended, too.
                            let _ = handle.renew(renewal);
                            (Status::Ok, reply)
                        }
                        Err(refused) => (Status::Error, refusal(&refused)),
                    }
                });
            }
            Err(unsure) => return Err(unsure.error.into()),
        }
        Ok(())
    }
}

impl Common for Renewer {
    fn handle(&self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Option<Flow> {
        if event != EVENT {
            return None;
        }
        self.gate(context.topic())?;
        if let Err(refused) = self.take(payload, context) {
            context.reply(Status::Error, refusal(&refused));
        }
        Some(Flow::Continue)
    }
}

fn token_of(payload: &Payload) -> Option<String> {
    let Payload::Json(json) = payload else { return None };
    let shown: Shown = serde_json::from_slice(json).ok()?;
    shown.access_token.or(shown.token).filter(|token| !token.is_empty())
}

fn accepted(expires_at: Option<u64>) -> Payload {
    Payload::Json(json!({ "expires_at": expires_at }).to_string().into())
}

/// Counts and logs a refusal.
fn refusal(refused: &Refused) -> Payload {
    telemetry::refused(refused.code(), "a new token for a socket is refused", refused);
    Payload::Json(json!({"reason": refused.code(), "message": refused.to_string()}).to_string().into())
}
