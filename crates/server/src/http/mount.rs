//! Where sockets are mounted, and which transport a path below a mount is.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use tickwire_channels::MountLimits;

use super::{longpoll, problem, ws};
use crate::{
    app::Node,
    config::{Config, SocketMount},
    live::Live,
    settings,
};

/// One mount of the Channels protocol.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where the configuration has it, such as `socket[0]`: what a refusal tells its operator to change.
    pub(crate) key: String,
    /// What the configuration says.
    pub(crate) rules: SocketMount,
    /// The bounds that its sockets share.
    pub(crate) limits: Arc<MountLimits>,
}

/// How a client below a mount speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `…/websocket`.
    WebSocket,
    /// `…/longpoll`.
    LongPoll,
}

impl Mount {
    /// All mounts of a configuration.
    pub(crate) fn all(config: &Config) -> Vec<Arc<Self>> {
        let mount = |(i, rules): (usize, &SocketMount)| {
            let limits = Arc::new(settings::mount_limits(config, rules));
            Arc::new(Self { key: format!("socket[{i}]"), rules: rules.clone(), limits })
        };
        config.sockets.iter().enumerate().map(mount).collect()
    }
}

impl Live {
    /// The mount and transport that a path names. WIRE: a trailing slash is tolerated, any other suffix is not.
    pub(crate) fn transport(&self, path: &str) -> Option<(Arc<Mount>, Transport)> {
        let (mount, transport) = path.strip_suffix('/').unwrap_or(path).rsplit_once('/')?;
        let mount = self.mounts.iter().find(|candidate| candidate.rules.path == mount)?;
        let (is_on, transport) = match transport {
            "websocket" => (mount.rules.websocket, Transport::WebSocket),
            "longpoll" => (mount.rules.longpoll, Transport::LongPoll),
            _ => return None,
        };
        is_on.then(|| (Arc::clone(mount), transport))
    }
}

/// Answers what no other route does: sockets, whose mounts may change while the node runs.
pub(super) async fn answer(State(node): State<Arc<Node>>, request: Request) -> Response {
    match node.live().transport(request.uri().path()) {
        Some((mount, Transport::WebSocket)) => ws::upgrade(node, mount, request).await,
        Some((mount, Transport::LongPoll)) => longpoll::answer(node, mount, request).await,
        None => problem::not_found(request.uri().clone()).await.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Auth, config::Sources};

    #[test]
    fn a_path_names_a_mount_and_a_transport() {
        let sockets = r#"socket=[{path="/socket"}, {path="/a/b", longpoll=false}]"#.to_owned();
        let config = Config::load(Sources { sets: vec![sockets], ..Sources::default() }).unwrap();
        let auth = Arc::new(Auth::new(&config.auth));
        let live = Live::new(config, auth);
        let seen = |path: &str| live.transport(path).map(|(mount, transport)| (mount.key.clone(), transport));
        for (path, expected) in [
            ("/socket/websocket", Some(("socket[0]", Transport::WebSocket))),
            ("/socket/websocket/", Some(("socket[0]", Transport::WebSocket))),
            ("/socket/longpoll", Some(("socket[0]", Transport::LongPoll))),
            ("/a/b/websocket", Some(("socket[1]", Transport::WebSocket))),
            ("/a/b/longpoll", None),
            ("/socket", None),
            ("/socket/", None),
            ("/socket/websocket//", None),
            ("/socket//websocket", None),
            ("/socket/Websocket", None),
            ("/socket/websocket/x", None),
            ("/websocket", None),
            ("", None),
        ] {
            assert_eq!(seen(path), expected.map(|(key, transport)| (key.to_owned(), transport)), "{path}");
        }
    }
}
