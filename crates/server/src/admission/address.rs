//! Whose request it is: the address of a client, behind however many proxies.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The proxies that may say for whom they speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustedProxies {
    /// Their networks.
    networks: Vec<Network>,
    /// The header in which each of them appends the address that it was called from.
    header: HeaderName,
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let expected = "is neither a network nor an address, for example \"10.0.0.0/8\" or \"fd00::1\"";
        network.map(|network| Self(network.trunc())).map_err(|_| expected.to_owned())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a header says about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The connection is the client's own: there is nothing to say.
    Direct,
    /// A trusted proxy names this client.
    Client(SocketAddr),
    /// A trusted proxy names nobody, as it does for its own probes.
    Nothing,
    /// A trusted proxy sends something that is no address.
    Malformed,
}

/// Whose request it is that came from a proxy in `10.0.0.0/8` or `fd00::/16` with these headers; `None` if that cannot be told.
#[cfg(feature = "testing")]
pub(crate) fn forwarded_for(values: &[&[u8]]) -> Option<SocketAddr> {
    let name = HeaderName::from_static("x-forwarded-for");
    let networks = ["10.0.0.0/8", "fd00::/16"].iter().filter_map(|text| text.parse().ok()).collect();
    let mut headers = HeaderMap::new();
    for value in values.iter().filter_map(|value| http::HeaderValue::from_bytes(value).ok()) {
        headers.append(name.clone(), value);
    }
    match TrustedProxies::new(networks, name).client(SocketAddr::from(([10, 0, 0, 1], 443)), &headers) {
        Said::Client(address) => Some(address),
        Said::Direct | Said::Nothing | Said::Malformed => None,
    }
}

impl TrustedProxies {
    /// Proxies in these networks, with the header that they write.
    pub(crate) fn new(networks: Vec<Network>, header: HeaderName) -> Self {
        Self { networks, header }
    }

    /// Whether a connection comes from one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.0.contains(&address))
    }

    /// Whose request it is that came over a connection from `peer`. Each proxy appends the address that it was called from, so that the
    /// last one that is no proxy of ours is the client; what stands before it was written by the client and is worth nothing.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Said {
        if !self.contains(peer.ip()) {
            return Said::Direct;
        }
        let mut nearest = Said::Nothing;
        for value in headers.get_all(&self.header).iter().rev() {
            for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
                match std::str::from_utf8(hop).ok().and_then(|hop| hop_address(hop.trim())) {
                    None => return Said::Malformed,
                    Some(address) if !self.contains(address.ip()) => return Said::Client(address),
                    // All that are left may be proxies: then the farthest of them is who asks.
                    Some(address) => nearest = Said::Client(address),
                }
            }
        }
        nearest
    }
}

/// An address with or without its port, as proxies write both.
fn hop_address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).or_else(|_| text.parse::<SocketAddr>());
    address.ok().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// What is limited as one address: an IPv4 address, or the /64 that an IPv6 client has to itself and can choose from freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(IpAddr);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "fd00::/16", "192.168.1.7"].map(|text| text.parse().unwrap());
        TrustedProxies::new(networks.to_vec(), HeaderName::from_static("x-forwarded-for"))
    }

    fn said(peer: &str, values: &[&[u8]]) -> Said {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", http::HeaderValue::from_bytes(value).unwrap());
        }
        proxies().client(peer.parse().unwrap(), &headers)
    }

    fn client(text: &str) -> Said {
        Said::Client(text.parse().unwrap())
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_of_ours_is_the_client() {
        for (values, expected) in [
            (&[b"203.0.113.9".as_slice()][..], "203.0.113.9:0"),
            (&[b"1.1.1.1, 203.0.113.9"], "203.0.113.9:0"),
            (&[b"1.1.1.1, 203.0.113.9, 10.1.2.3,fd00::5"], "203.0.113.9:0"),
            (&[b"1.1.1.1", b"203.0.113.9", b"10.1.2.3"], "203.0.113.9:0"),
            (&[b"203.0.113.9:443"], "203.0.113.9:443"),
            (&[b"2001:db8::1"], "[2001:db8::1]:0"),
            (&[b"[2001:db8::1]"], "[2001:db8::1]:0"),
            (&[b"[2001:db8::1]:8080"], "[2001:db8::1]:8080"),
            (&[b"::ffff:203.0.113.9"], "203.0.113.9:0"),
            // Garbage that the client wrote before the proxies did is not looked at.
            (&[b"<script>, 203.0.113.9"], "203.0.113.9:0"),
            // A probe from within.
            (&[b"10.9.9.9, 10.1.1.1"], "10.9.9.9:0"),
        ] {
            assert_eq!(said("10.0.0.1:5", values), client(expected));
        }
    }

    #[test]
    fn who_is_no_proxy_says_nothing_about_clients() {
        assert_eq!(said("203.0.113.1:5", &[b"1.1.1.1"]), Said::Direct);
        assert_eq!(said("192.168.1.8:5", &[b"1.1.1.1"]), Said::Direct);
        assert_eq!(said("192.168.1.7:5", &[b"1.1.1.1"]), client("1.1.1.1:0"));
        assert_eq!(said("[::ffff:10.0.0.1]:5", &[b"1.1.1.1"]), client("1.1.1.1:0"));
        assert_eq!(said("10.0.0.1:5", &[]), Said::Nothing);
    }

    #[test]
    fn what_is_no_address_is_malformed() {
        for value in
            ["", "unknown", "1.1.1.1,", "1.1.1", "\"1.1.1.1\"", "for=1.1.1.1", "1.1.1.1 2.2.2.2", "[::1", "1.1.1.1:x"]
        {
            assert_eq!(said("10.0.0.1:5", &[value.as_bytes()]), Said::Malformed, "{value:?}");
        }
        assert_eq!(said("10.0.0.1:5", &[b"\xff\xfe"]), Said::Malformed);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let key = |text: &str| AddressKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("203.0.113.9"), key("203.0.113.8"));
        assert_eq!(key("203.0.113.9"), key("::ffff:203.0.113.9"));
    }
}
