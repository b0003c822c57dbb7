//! Servers of others, measured beside ours with the same work: the same payloads, sockets, schedule and checks.
//!
//! None of them stamps what it delivers, so that the publisher does: symbols count from 1 in one epoch, [`EPOCH`], and every subscription
//! begins at 0. Nothing is published before all have subscribed.

mod centrifugo;
mod link;
mod nats;
mod socketio;
#[cfg(test)]
mod testing;

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use self::{centrifugo::Centrifugo, nats::Nats, socketio::SocketIo};
use crate::{BenchError, dialect::Dialect};

/// The epoch of all that is published, as long as ours are.
const EPOCH: &str = "bench-of-peer";
/// How long a publisher waits for a server that does not follow.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of others: `nats=ADDRESS,ADDRESS` (its WebSocket port and its port for clients), `centrifugo=ADDRESS`, `socketio=ADDRESS`.
#[derive(Debug, Clone)]
pub struct Peer(pub(crate) Arc<dyn Dialect>);

impl FromStr for Peer {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = || {
            BenchError::Option(format!(
                "{text:?} is no server: nats=ADDRESS,ADDRESS (WebSocket, clients), centrifugo=ADDRESS or socketio=ADDRESS, \
                 for example nats=127.0.0.1:4280,127.0.0.1:4222"
            ))
        };
        let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| wrong());
        let (kind, addresses) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self(match kind {
            "nats" => {
                let (socket, clients) = addresses.split_once(',').ok_or_else(wrong)?;
                Arc::new(Nats { socket: address(socket)?, clients: address(clients)? })
            }
            "centrifugo" => Arc::new(Centrifugo { socket: address(addresses)? }),
            "socketio" => Arc::new(SocketIo { socket: address(addresses)? }),
            _ => return Err(wrong()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_kind_and_its_addresses() {
        let peer: Peer = "nats=127.0.0.1:1,127.0.0.1:2".parse().unwrap();
        assert_eq!(peer.0.address().port(), 1);
        for right in ["centrifugo=127.0.0.1:1", "socketio=[::1]:1"] {
            assert!(right.parse::<Peer>().is_ok(), "{right}");
        }
        for wrong in
            ["", "nats", "nats=127.0.0.1:1", "nats=127.0.0.1,127.0.0.1:2", "other=127.0.0.1:1", "socketio=host"]
        {
            assert!(wrong.parse::<Peer>().unwrap_err().to_string().contains("is no server"), "{wrong}");
        }
    }
}
