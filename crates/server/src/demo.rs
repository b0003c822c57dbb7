//! The demo endpoint within a node: on where `demo.enabled` says so, off everywhere else.

use tickwire_channels::Router;
pub(crate) use tickwire_demo::{Connect, connect};

use crate::{access, config::Config};

/// The routes that stand in front of all others: none, unless the configuration has the demo endpoint. Where it has, the log says what that
/// opens.
pub(crate) fn routes(config: &Config) -> Router {
    let router = Router::new();
    if !config.demo.enabled {
        return router;
    }
    tracing::warn!(
        "demo.enabled is set: whoever reaches the public port may broadcast on every topic, disconnect sockets and crash channels, without \
         a key; never run this where somebody relies on it"
    );
    let hidden: Vec<_> =
        config.channels.iter().map(|rule| rule.pattern.to_string()).filter(|rule| is_hidden(rule)).collect();
    if !hidden.is_empty() {
        tracing::info!(?hidden, "the demo endpoint's topics stand in front of these [[channel]] entries");
    }
    tickwire_demo::routes(router, access::shown_token)
}

/// Whether all topics of a pattern are the demo endpoint's.
fn is_hidden(pattern: &str) -> bool {
    tickwire_demo::PATTERNS.iter().any(|demo| match demo.strip_suffix('*') {
        Some(prefix) => pattern.starts_with(prefix),
        None => pattern == *demo,
    })
}
