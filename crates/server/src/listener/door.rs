//! The door that all public ports share: how many may be in, and at what pace they come.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use tokio::sync::Semaphore;

use crate::{
    admission::{AddressPlace, Admission, Limit, Refused, UserPlace, Via},
    config::LimitsConfig,
};

/// How many connections there may be, how many may come in a second, and whose they may be.
#[derive(Debug)]
pub(crate) struct Door {
    open: Arc<AtomicUsize>,
    open_max: AtomicUsize,
    per_second: AtomicU32,
    /// When the next connection is due, if all that were due have come.
    next: parking_lot::Mutex<Instant>,
    /// Only so many refusals are explained at a time; the others are just closed.
    pub(super) explanations: Arc<Semaphore>,
    /// Event streams and subscriptions: as many as connections, since one connection may carry many of them.
    streams: Arc<AtomicUsize>,
    /// Sessions of long polling: one connection can open any number of them. Half as many as connections, and none of their places, so that
    /// those who poll keep nobody else out.
    sessions: Arc<AtomicUsize>,
    /// What one address and one user may have of it.
    pub(crate) admission: Admission,
}

/// A place among the connections; dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request knows of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The client's address: behind a trusted proxy the one that the proxy names.
    pub(crate) peer: SocketAddr,
    /// How the address is limited.
    pub(crate) via: Via,
    /// The connection's place, which an upgraded socket takes along.
    pub(crate) permit: Option<Arc<Permit>>,
    /// The place among those of the address.
    pub(crate) address: Option<Arc<AddressPlace>>,
}

/// The places that a socket has for as long as it lives; dropping it gives them back.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the places back"]
pub(crate) struct SocketPermit {
    _connection: Option<Arc<Permit>>,
    _address: Option<Arc<AddressPlace>>,
    _user: Option<UserPlace>,
}

impl Door {
    /// A door for `open_max` connections, at the pace and with the rules of these limits.
    pub(crate) fn new(open_max: usize, limits: &LimitsConfig) -> Self {
        Self {
            open: Arc::default(),
            open_max: AtomicUsize::new(open_max),
            per_second: AtomicU32::new(limits.accepts_per_second),
            next: parking_lot::Mutex::new(Instant::now()),
            explanations: Arc::new(Semaphore::new(64)),
            streams: Arc::default(),
            sessions: Arc::default(),
            admission: Admission::new(limits),
        }
    }

    /// Takes over what the configuration has come to allow. Nobody who is in has to leave.
    pub(crate) fn set(&self, open_max: usize, limits: &LimitsConfig) {
        self.open_max.store(open_max, Ordering::Relaxed);
        self.per_second.store(limits.accepts_per_second, Ordering::Relaxed);
        self.admission.set(limits);
    }

    /// How many connections there may be.
    pub(crate) fn open_max(&self) -> usize {
        self.open_max.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place among the connections.
    fn enter(&self) -> Result<Arc<Permit>, Refused> {
        self.place(&self.open, self.open_max()).map(Arc::new).ok_or_else(|| Refused::now(Limit::Connections))
    }

    /// Takes a place among the event streams and subscriptions.
    pub(crate) fn enter_stream(&self) -> Option<Permit> {
        self.place(&self.streams, self.open_max())
    }

    fn place(&self, taken: &Arc<AtomicUsize>, max: usize) -> Option<Permit> {
        let more = |places| (places < max).then_some(places + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok().then(|| Permit(Arc::clone(taken)))
    }

    /// Lets a connection in that has just been accepted.
    ///
    /// # Errors
    /// There is no room, or its address may not have it.
    pub(super) fn connect(&self, peer: SocketAddr, now: Instant) -> Result<Connection, Refused> {
        let direct = self.admission.is_direct(peer.ip());
        let address = if direct { self.admission.connect(peer.ip(), now)? } else { None };
        let via = if direct { Via::Direct } else { Via::ProxyItself };
        Ok(Connection { peer, via, permit: Some(self.enter()?), address: address.map(Arc::new) })
    }

    /// What a request is to know of its connection: over that of a trusted proxy it comes from the client that the proxy names, and has a
    /// place of its own among those of that client's address.
    ///
    /// # Errors
    /// The address has no place left.
    pub(crate) fn request(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
    ) -> Result<Connection, (SocketAddr, Refused)> {
        if connection.via == Via::Direct {
            return Ok(connection.clone());
        }
        let (peer, via) = self.admission.client(connection.peer, headers);
        let address = match via {
            Via::Proxy => self.admission.request(peer.ip()).map_err(|refused| (peer, refused))?,
            Via::Direct | Via::ProxyItself => None,
        };
        Ok(Connection { peer, via, permit: connection.permit.clone(), address: address.map(Arc::new) })
    }

    /// Lets a socket in that lives on the connection of its upgrade.
    ///
    /// # Errors
    /// Its address opens them too fast, or its user has as many as may be.
    pub(crate) fn admit_socket(&self, connection: &Connection, user: Option<&str>) -> Result<SocketPermit, Refused> {
        let address = match connection.via {
            // Each socket takes a connection of its own away from the proxy: it is as good as accepted.
            Via::Proxy => {
                self.admission.pace(connection.peer.ip(), Instant::now())?;
                connection.address.clone()
            }
            Via::Direct | Via::ProxyItself => connection.address.clone(),
        };
        self.permit(connection.permit.clone(), address, user)
    }

    /// Lets a session in that outlives the connections of its polls.
    ///
    /// # Errors
    /// There is no room, its address has no place left or opens them too fast, or its user has as many as may be.
    pub(crate) fn admit_session(&self, connection: &Connection, user: Option<&str>) -> Result<SocketPermit, Refused> {
        let address = match connection.via {
            Via::Direct | Via::Proxy => self.admission.connect(connection.peer.ip(), Instant::now())?,
            Via::ProxyItself => None,
        };
        let place = self.place(&self.sessions, (self.open_max() / 2).max(1)).map(Arc::new);
        self.permit(Some(place.ok_or_else(|| Refused::now(Limit::Sessions))?), address.map(Arc::new), user)
    }

    fn permit(
        &self,
        connection: Option<Arc<Permit>>,
        address: Option<Arc<AddressPlace>>,
        user: Option<&str>,
    ) -> Result<SocketPermit, Refused> {
        let user = user.map(|user| self.admission.user(user)).transpose()?.flatten();
        Ok(SocketPermit { _connection: connection, _address: address, _user: user })
    }

    /// How long the next connection has to wait so that a herd comes in at the rate we can greet it. Up to a tenth of a second's worth
    /// comes in at once; the rest waits in the system's queue, which costs nobody anything.
    pub(super) fn pace(&self, now: Instant) -> Duration {
        const BURST: Duration = Duration::from_millis(100);
        let interval = Duration::from_secs(1) / self.per_second.load(Ordering::Relaxed).max(1);
        let mut next = self.next.lock();
        let due = (*next).max(now.checked_sub(BURST).unwrap_or(now)) + interval;
        *next = due;
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Config;

    fn door(open_max: usize, change: impl FnOnce(&mut LimitsConfig)) -> Door {
        let mut limits = Config::default().limits;
        change(&mut limits);
        Door::new(open_max, &limits)
    }

    fn connect(door: &Door, peer: &str) -> Result<Connection, Refused> {
        door.connect(peer.parse().unwrap(), Instant::now())
    }

    #[test]
    fn a_door_has_as_many_places_as_it_says_and_gives_them_back() {
        let door = door(2, |_| {});
        let (first, second) = (connect(&door, "203.0.113.1:1").unwrap(), connect(&door, "203.0.113.1:2").unwrap());
        assert_eq!(connect(&door, "203.0.113.1:3").unwrap_err().code(), "too_many_connections");
        drop(first);
        let third = connect(&door, "203.0.113.1:3").unwrap();
        assert_eq!((door.open(), door.open_max()), (2, 2));
        drop((second, third));
        assert_eq!(door.open(), 0);
    }

    #[test]
    fn a_herd_is_paced_after_its_first_burst() {
        let door = door(1_000, |limits| limits.accepts_per_second = 100);
        let now = Instant::now() + Duration::from_secs(10);
        let waits: Vec<_> = (0..30).map(|_| door.pace(now)).collect();
        assert!(waits[..10].iter().all(Duration::is_zero), "a tenth of a second's worth comes in at once");
        assert_eq!(waits[29], Duration::from_millis(200));
    }

    /// What a refused connection had taken on its way in, it gives back.
    #[test]
    fn a_full_door_takes_no_place_of_an_address() {
        let door = door(1, |limits| limits.connections_per_address = Some(1));
        let one = connect(&door, "203.0.113.1:1").unwrap();
        assert_eq!(connect(&door, "203.0.113.2:1").unwrap_err().code(), "too_many_connections");
        drop(one);
        assert!(connect(&door, "203.0.113.2:1").is_ok());
    }

    #[test]
    fn clients_of_one_proxy_are_limited_each_for_itself() {
        let door = door(100, |limits| {
            limits.connections_per_address = Some(1);
            limits.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        });
        let request = |peer: &str, client: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(client));
            let connection = connect(&door, peer).unwrap();
            door.request(&connection, &headers).map_err(|(_, refused)| refused.code())
        };
        let one = request("10.0.0.1:1", "203.0.113.1").unwrap();
        assert_eq!(one.peer.to_string(), "203.0.113.1:0");
        assert_eq!(request("10.0.0.1:2", "203.0.113.1").unwrap_err(), "connections_per_address");
        let other = request("10.0.0.1:3", "203.0.113.2").unwrap();
        // A socket keeps the place of its upgrade, whatever becomes of the request.
        let socket = door.admit_socket(&one, None).unwrap();
        drop(one);
        assert!(request("10.0.0.1:4", "203.0.113.1").is_err());
        drop(socket);
        assert!(request("10.0.0.1:5", "203.0.113.1").is_ok());
        drop(other);
    }

    /// Whoever opens sessions without end keeps out those who poll, and nobody else.
    #[test]
    fn sessions_take_no_place_of_a_connection() {
        let door = door(4, |_| {});
        let connection = connect(&door, "203.0.113.1:1").unwrap();
        let open = || door.admit_session(&connection, None);
        let sessions = (open().unwrap(), open().unwrap());
        assert_eq!(open().unwrap_err().code(), "too_many_sessions");
        let others: Vec<_> = (2..5).map(|port| connect(&door, &format!("203.0.113.1:{port}")).unwrap()).collect();
        assert!(connect(&door, "203.0.113.1:9").is_err());
        drop(sessions);
        assert!(open().is_ok());
        drop(others);
    }

    #[test]
    fn a_user_has_so_many_sockets_and_sessions_together() {
        let door = door(100, |limits| limits.connections_per_user = Some(2));
        let connection = connect(&door, "203.0.113.1:1").unwrap();
        let socket = door.admit_socket(&connection, Some("alice")).unwrap();
        let session = door.admit_session(&connection, Some("alice")).unwrap();
        assert_eq!(door.admit_socket(&connection, Some("alice")).unwrap_err().code(), "connections_per_user");
        assert!(door.admit_socket(&connection, None).is_ok());
        drop((socket, session, connection));
        assert_eq!(door.open(), 0);
    }
}
