//! What a node can change while it runs: [`Live`] is one consistent state of it, which SIGHUP replaces as a whole.

use std::sync::Arc;

use tickwire_channels::Router;
use tickwire_market::Market;

use crate::{
    access::Gate,
    auth::Auth,
    config::{ChannelKind, ChannelRule, Config},
    demo,
    http::mount::Mount,
    renewal::Renewer,
    topics::{
        room::{RoomKind, RoomRule, Rooms},
        ticker::TickerKind,
    },
};

/// One state of all that can change. Whoever answers a request takes it once and keeps to it.
#[derive(Debug)]
pub(crate) struct Live {
    /// What the configuration says, as far as it is in force.
    pub(crate) config: Config,
    /// Who somebody is.
    pub(crate) auth: Arc<Auth>,
    /// Where sockets are mounted.
    pub(crate) mounts: Vec<Arc<Mount>>,
    /// What is behind which topics; the first match decides.
    pub(crate) channels: Vec<ChannelSetting>,
}

/// What is behind a set of topics.
#[derive(Debug)]
pub(crate) struct ChannelSetting {
    /// What the configuration says.
    pub(crate) rule: ChannelRule,
    /// Who may join and send.
    pub(crate) gate: Gate,
    /// The room's own rules, if it is one.
    pub(crate) room: Option<Arc<RoomRule>>,
}

impl Live {
    /// What a configuration says, ready for use.
    pub(crate) fn new(config: Config, auth: Arc<Auth>) -> Self {
        let mounts = Mount::all(&config);
        let channels = config.channels.iter().map(setting).collect();
        Self { config, auth, mounts, channels }
    }

    /// What is behind a topic: the first entry that matches.
    pub(crate) fn channel_of(&self, topic: &str) -> Option<&ChannelSetting> {
        self.channels.iter().find(|setting| setting.rule.pattern.matches(topic))
    }

    /// The channels as workers route to them.
    ///
    /// # Errors
    /// A pattern is none.
    pub(crate) fn router(&self, market: &Market, rooms: &Arc<Rooms>) -> Result<Router, tickwire_channels::BadPattern> {
        let demo = demo::routes(&self.config);
        let gates = self.channels.iter().map(|setting| (setting.rule.pattern.clone(), setting.gate));
        let renewer = Renewer::new(Arc::clone(&self.auth), gates, demo.clone());
        self.channels.iter().try_fold(demo.common(Arc::new(renewer)), |router, setting| {
            let pattern = setting.rule.pattern.to_string().parse()?;
            let gate = setting.gate;
            Ok(match &setting.room {
                None => router.route(pattern, Arc::new(TickerKind { market: market.clone(), gate })),
                Some(rule) => {
                    let kind = RoomKind { rooms: Arc::clone(rooms), rule: Arc::clone(rule), gate };
                    router.route(pattern, Arc::new(kind))
                }
            })
        })
    }
}

fn setting(rule: &ChannelRule) -> ChannelSetting {
    let room = match &rule.kind {
        ChannelKind::Ticker => None,
        ChannelKind::Room { broadcast, echo, history } => {
            Some(Arc::new(RoomRule { broadcast: broadcast.clone(), echo: echo.clone(), history: *history }))
        }
    };
    ChannelSetting { gate: Gate::new(rule), rule: rule.clone(), room }
}
