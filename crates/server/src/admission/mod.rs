//! Who may come in: limits of connections, of their coming and of joins, by address and by user.
//!
//! What is counted for the whole node is the [`Door`](crate::listener::Door)'s business; here it is decided what one address and one user
//! may take of it. An address that connects by itself is looked at when its connection is accepted, before it has cost anything. Behind a
//! proxy that `limits.trusted_proxies` names, a connection carries many clients, so that each request is looked at for itself.

mod address;
mod places;
mod rate;
mod table;

use std::{
    hash::Hash,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tickwire_channels::SocketInfo;

pub use self::address::Network;
#[cfg(feature = "testing")]
pub(crate) use self::address::forwarded_for;
use self::{
    address::{AddressKey, Said, TrustedProxies},
    places::{Place, Places},
    rate::Rate,
    table::RateTable,
};
use crate::{config::LimitsConfig, http::problem::Problem, metrics, telemetry::Throttle};

/// What one address and one user may take, and what they have.
#[derive(Debug)]
pub(crate) struct Admission {
    rules: ArcSwap<Rules>,
    addresses: Arc<Places<AddressKey>>,
    users: Arc<Places<Box<str>>>,
    accepts: LazyTable,
    joins_by_address: LazyTable,
    joins_by_user: LazyTable,
    malformed: Throttle,
}

/// A table that costs nothing while its limit is off.
type LazyTable = OnceLock<RateTable>;

#[derive(Debug)]
struct Rules {
    connections_per_address: Option<u32>,
    connections_per_user: Option<u32>,
    accepts_per_address: Option<Rate>,
    joins_per_address: Option<Rate>,
    joins_per_user: Option<Rate>,
    proxies: TrustedProxies,
}

/// A place that an address has among its connections; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub(crate) struct AddressPlace(#[expect(dead_code, reason = "held for its drop")] Place<AddressKey>);

/// A place that a user has among their sockets; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub(crate) struct UserPlace(#[expect(dead_code, reason = "held for its drop")] Place<Box<str>>);

/// Somebody may not come in, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    limit: Limit,
    retry_after: Duration,
}

/// Which limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    Sessions,
    ConnectionsPerAddress,
    ConnectionsPerUser,
    AcceptsPerAddress,
}

/// Where a connection stands with the limits of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// It is the client's own, and was counted when it was accepted.
    Direct,
    /// A trusted proxy's, who named the client.
    Proxy,
    /// A trusted proxy's, on its own behalf: its probes are not to be refused for what its clients do.
    ProxyItself,
}

impl Admission {
    /// What the configuration allows.
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::new(limits)),
            addresses: Arc::new(Places::new()),
            users: Arc::new(Places::new()),
            accepts: OnceLock::new(),
            joins_by_address: OnceLock::new(),
            joins_by_user: OnceLock::new(),
            malformed: Throttle::new(Duration::from_secs(10)),
        }
    }

    /// Takes over what the configuration has come to allow. Who is in stays in; what came in while nothing was counted is not counted.
    pub(crate) fn set(&self, limits: &LimitsConfig) {
        self.rules.store(Arc::new(Rules::new(limits)));
    }

    /// Whether a connection is the client's own, or comes from a proxy whose requests say whose they are.
    pub(crate) fn is_direct(&self, peer: IpAddr) -> bool {
        !self.rules.load().proxies.contains(peer)
    }

    /// Whether an address may open one more connection now.
    ///
    /// # Errors
    /// It has as many as it may, or they come too fast.
    pub(crate) fn connect(&self, address: IpAddr, now: Instant) -> Result<Option<AddressPlace>, Refused> {
        self.pace(address, now)?;
        self.place(address.into(), &self.rules.load())
    }

    /// Takes one out of the rate at which an address may open connections.
    ///
    /// # Errors
    /// They come too fast.
    pub(crate) fn pace(&self, address: IpAddr, now: Instant) -> Result<(), Refused> {
        let Some(rate) = self.rules.load().accepts_per_address else { return Ok(()) };
        take(&self.accepts, AddressKey::from(address), rate, now)
            .map_err(|retry_after| Refused { limit: Limit::AcceptsPerAddress, retry_after })
    }

    /// A place for an address, without looking at how fast it comes.
    fn place(&self, key: AddressKey, rules: &Rules) -> Result<Option<AddressPlace>, Refused> {
        let Some(max) = rules.connections_per_address else { return Ok(None) };
        let place = self.addresses.take(key, max);
        place.map(|place| Some(AddressPlace(place))).ok_or_else(|| Refused::now(Limit::ConnectionsPerAddress))
    }

    /// A place for a request of a proxied client for as long as it is under way.
    ///
    /// # Errors
    /// It has as many requests and sockets under way as it may have connections.
    pub(crate) fn request(&self, address: IpAddr) -> Result<Option<AddressPlace>, Refused> {
        self.place(address.into(), &self.rules.load())
    }

    /// Whose request it is: over whose connection the client speaks, and its address.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> (SocketAddr, Via) {
        match self.rules.load().proxies.client(peer, headers) {
            Said::Direct => (peer, Via::Direct),
            Said::Client(client) => (client, Via::Proxy),
            Said::Nothing => (peer, Via::ProxyItself),
            // Not let off: or a client that gets garbage through its proxy would have no limits. They are then the proxy's own.
            Said::Malformed => {
                metrics::refused("client_address");
                if let Some(held_back) = self.malformed.pass(Instant::now()) {
                    tracing::warn!(%peer, held_back, "a proxy of limits.trusted_proxies sends a limits.client_address_header that ends in no address; its clients are limited together, by its own");
                }
                (peer, Via::Proxy)
            }
        }
    }

    /// Whether a user may have one more socket.
    ///
    /// # Errors
    /// They have as many as they may.
    pub(crate) fn user(&self, user: &str) -> Result<Option<UserPlace>, Refused> {
        let Some(max) = self.rules.load().connections_per_user else { return Ok(None) };
        let place = self.users.take(user.into(), max);
        place.map(|place| Some(UserPlace(place))).ok_or_else(|| Refused::now(Limit::ConnectionsPerUser))
    }

    /// Whether a socket may join one more topic.
    ///
    /// # Errors
    /// Its address or its user joins too fast; which of the two, as a label.
    pub(crate) fn join(&self, socket: &SocketInfo, now: Instant) -> Result<(), &'static str> {
        let rules = self.rules.load();
        if let Some(rate) = rules.joins_per_address {
            take(&self.joins_by_address, AddressKey::from(socket.peer.ip()), rate, now).map_err(|_| "address_rate")?;
        }
        if let (Some(rate), Some(user)) = (rules.joins_per_user, &socket.user) {
            take(&self.joins_by_user, user.as_str(), rate, now).map_err(|_| "user_rate")?;
        }
        Ok(())
    }
}

fn take(table: &LazyTable, party: impl Hash, rate: Rate, now: Instant) -> Result<(), Duration> {
    table.get_or_init(|| RateTable::new(now)).take(party, rate, now)
}

impl Rules {
    fn new(limits: &LimitsConfig) -> Self {
        let rate = |rate: Option<u32>| rate.and_then(NonZeroU32::new).map(Rate::per_second);
        Self {
            connections_per_address: limits.connections_per_address,
            connections_per_user: limits.connections_per_user,
            accepts_per_address: rate(limits.accepts_per_second_per_address),
            joins_per_address: rate(limits.joins_per_second_per_address),
            joins_per_user: rate(limits.joins_per_second_per_user),
            proxies: TrustedProxies::new(limits.trusted_proxies.clone(), limits.client_address_header.clone()),
        }
    }
}

impl Refused {
    /// A limit that may have room again at any moment.
    pub(crate) fn now(limit: Limit) -> Self {
        Self { limit, retry_after: Duration::from_secs(1) }
    }

    /// Its stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self.limit {
            Limit::Connections => "too_many_connections",
            Limit::Sessions => "too_many_sessions",
            Limit::ConnectionsPerAddress => "connections_per_address",
            Limit::ConnectionsPerUser => "connections_per_user",
            Limit::AcceptsPerAddress => "accepts_per_address",
        }
    }

    /// The label of its metric.
    fn label(&self) -> &'static str {
        match self.limit {
            Limit::Connections => "connections",
            _ => self.code(),
        }
    }

    /// 503 where another node may help, 429 where only waiting does.
    pub(crate) fn status(&self) -> StatusCode {
        match self.limit {
            Limit::Connections | Limit::Sessions => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// When to come back, in whole seconds.
    pub(crate) fn retry_after(&self) -> HeaderValue {
        HeaderValue::from(self.retry_seconds())
    }

    /// The same as a number.
    pub(crate) fn retry_seconds(&self) -> u64 {
        self.retry_after.as_millis().div_ceil(1000).clamp(1, 60) as u64
    }

    /// The key of the configuration that is the limit.
    pub(crate) fn key(&self) -> &'static str {
        match self.limit {
            Limit::Connections | Limit::Sessions => "limits.connections",
            Limit::ConnectionsPerAddress => "limits.connections_per_address",
            Limit::ConnectionsPerUser => "limits.connections_per_user",
            Limit::AcceptsPerAddress => "limits.accepts_per_second_per_address",
        }
    }

    /// What the client is told.
    pub(crate) fn detail(&self) -> &'static str {
        match self.limit {
            Limit::Connections => {
                "The node has as many connections as limits.connections allows. Try again later or at another node."
            }
            Limit::Sessions => {
                "The node has as many sessions of long polling as it takes, half of limits.connections. Try again later or at another node."
            }
            Limit::ConnectionsPerAddress => {
                "Your address has as many connections as limits.connections_per_address allows. Close some, or share one: a socket carries many channels."
            }
            Limit::ConnectionsPerUser => {
                "This user has as many sockets as limits.connections_per_user allows. Close some, or share one: a socket carries many channels."
            }
            Limit::AcceptsPerAddress => {
                "Your address opens connections faster than limits.accepts_per_second_per_address allows. Wait a moment, and keep connections open."
            }
        }
    }

    /// Counts it, and logs it at a bounded rate.
    pub(crate) fn tell(&self, peer: SocketAddr) {
        static LOGGED: [Throttle; 5] = [const { Throttle::new(Duration::from_secs(1)) }; 5];
        metrics::refused(self.label());
        if let Some(held_back) = LOGGED[self.limit as usize].pass(Instant::now()) {
            tracing::warn!(code = self.code(), %peer, held_back, "refused: {}", self.detail());
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let title = match refused.limit {
            Limit::AcceptsPerAddress => "Too many connections at once",
            _ => "Too many connections",
        };
        Self::new(refused.status(), refused.code(), title, refused.detail())
            .header(header::RETRY_AFTER, refused.retry_after())
    }
}

#[cfg(test)]
mod tests;
