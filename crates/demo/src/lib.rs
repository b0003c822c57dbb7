//! The demo endpoint: channels on which every behaviour of the wire can be provoked from outside, for conformance suites and for whoever
//! wants to see how a client takes it. `docs/protocol.md` lists its topics and events.
//!
//! Start from [`routes`], which adds its topics to a router, and [`connect`], which decides on connections. It is written against the
//! public API of `tickwire-channels` alone and is the largest example of it: a [`Kind`](tickwire_channels::Kind) that refuses, crashes or
//! accepts, and channels that answer now, later, in JSON, in bytes, or end in each of the ways in which a channel can.
//!
//! It deliberately knows no HTTP, no market and no right: whoever mounts it lets everybody do everything on its topics.
//!
//! ```
//! use tickwire_channels::Router;
//!
//! let router = tickwire_demo::routes(Router::new(), |_socket| None);
//! assert!(router.find("room:anything").is_some() && router.find("lobby").is_some());
//! assert!(router.find("lobby:2").is_none());
//! ```

mod playground;
mod realtime;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tickwire_channels::{Context, Payload, Router, SocketInfo, Status, channel::reason_payload, handshake::Params};

use self::{playground::Playground, realtime::Realtime};

/// Finds the token that a socket came with, where the application has put it. The playground shows it to the socket's own client and
/// nobody else.
pub type TokenOf = fn(&SocketInfo) -> Option<&str>;

/// The topics of the demo endpoint, behind those that are in the router already.
#[must_use]
pub fn routes(router: Router, token_of: TokenOf) -> Router {
    let playground = Arc::new(Playground { token_of });
    PATTERNS.into_iter().fold(router, |router, pattern| {
        let route = pattern.parse().expect("a constant that the tests parse");
        match pattern.starts_with("realtime:") {
            true => router.route(route, Arc::new(Realtime)),
            false => router.route(route, Arc::clone(&playground) as Arc<dyn tickwire_channels::Kind>),
        }
    })
}

/// What [`routes`] adds, as patterns of topics.
pub const PATTERNS: [&str; 3] = ["room:*", "lobby", "realtime:*"];

/// What is decided about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// It is accepted.
    Accept {
        /// The name by which its socket can be disconnected, if it chose one.
        id: Option<String>,
    },
    /// It is refused, 403.
    Refuse,
}

/// Decides on a connection by its parameters: `reject=error` and `reject=reason` refuse it, `socket_id=X` names it `users_socket:X`.
#[must_use]
pub fn connect(params: &Params) -> Connect {
    match params.get("reject") {
        Some("error" | "reason") => Connect::Refuse,
        _ => Connect::Accept { id: params.get("socket_id").map(|id| format!("users_socket:{id}")) },
    }
}

fn json(value: &Value) -> Payload {
    Payload::Json(Bytes::from(value.to_string()))
}

/// Answers what cannot be done.
fn refuse(context: &mut Context<'_>, reason: &str) {
    context.reply(Status::Error, reason_payload(reason));
}

/// The payload as a `T`, if it is JSON and one.
fn parse<T: serde::de::DeserializeOwned>(payload: &Payload) -> Option<T> {
    match payload {
        Payload::Json(text) => serde_json::from_slice(text).ok(),
        Payload::Binary(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_topics_are_routed_and_no_others() {
        let router = routes(Router::new(), |_| None);
        for topic in ["room:", "room:a:b", "lobby", "realtime:x"] {
            assert!(router.find(topic).is_some(), "{topic}");
        }
        for topic in ["room", "Room:a", "lobby2", "ticker:EURUSD", "nosuch:a", "phoenix", ""] {
            assert!(router.find(topic).is_none(), "{topic}");
        }
    }

    #[test]
    fn parameters_refuse_or_name_a_connection() {
        let decide = |query: &str| connect(&Params::parse(query).unwrap());
        let accept = |id: Option<&str>| Connect::Accept { id: id.map(str::to_owned) };
        assert_eq!(decide("vsn=2.0.0&token=x"), accept(None));
        assert_eq!(decide("socket_id=42"), accept(Some("users_socket:42")));
        assert_eq!(decide("socket_id=%C3%A9+x&reject=no"), accept(Some("users_socket:é x")));
        assert_eq!(decide("reject=error"), Connect::Refuse);
        assert_eq!(decide("socket_id=1&reject=reason"), Connect::Refuse);
    }
}
