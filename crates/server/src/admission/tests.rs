use http::HeaderName;
use tickwire_channels::{MountLimits, SocketInfo, WireFormat};

use super::*;
use crate::config::Config;

fn limits(change: impl FnOnce(&mut LimitsConfig)) -> LimitsConfig {
    let mut limits = Config::default().limits;
    change(&mut limits);
    limits
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_is_counted_while_nothing_is_limited() {
    let admission = Admission::new(&limits(|_| {}));
    for _ in 0..100_000 {
        assert!(admission.connect(ip("203.0.113.1"), Instant::now()).unwrap().is_none());
    }
    assert!(admission.accepts.get().is_none());
}

#[test]
fn an_address_has_its_places_whatever_others_have() {
    let admission = Admission::new(&limits(|limits| limits.connections_per_address = Some(2)));
    let connect = |address| admission.connect(ip(address), Instant::now());
    let (first, second) = (connect("2001:db8::1").unwrap(), connect("2001:db8::2").unwrap());
    assert_eq!(connect("2001:db8::3").unwrap_err().code(), "connections_per_address");
    let other = connect("2001:db8:0:1::1").unwrap();
    drop(first);
    let third = connect("2001:db8::3").unwrap();
    assert!(second.is_some() && third.is_some() && other.is_some());
}

#[test]
fn an_address_comes_in_at_its_rate() {
    let admission = Admission::new(&limits(|limits| limits.accepts_per_second_per_address = Some(5)));
    let now = Instant::now();
    let taken = (0..10).filter(|_| admission.connect(ip("203.0.113.1"), now).is_ok()).count();
    assert_eq!(taken, 5);
    let refused = admission.connect(ip("203.0.113.1"), now).unwrap_err();
    assert_eq!((refused.code(), refused.status().as_u16()), ("accepts_per_address", 429));
    assert_eq!(refused.retry_after(), "1");
    assert!(admission.connect(ip("203.0.113.1"), now + Duration::from_millis(200)).is_ok());
}

#[test]
fn limits_that_are_turned_on_hold_from_then_on() {
    let admission = Admission::new(&limits(|_| {}));
    let before = admission.user("alice").unwrap();
    admission.set(&limits(|limits| limits.connections_per_user = Some(1)));
    let one = admission.user("alice").unwrap();
    assert!(before.is_none() && one.is_some());
    assert_eq!(admission.user("alice").unwrap_err().code(), "connections_per_user");
    assert!(admission.user("bob").is_ok());
}

#[test]
fn joins_are_counted_by_address_and_by_user() {
    let admission = Admission::new(&limits(|limits| {
        limits.joins_per_second_per_address = Some(3);
        limits.joins_per_second_per_user = Some(2);
    }));
    let now = Instant::now();
    let socket = |address: &str, user: Option<&str>| {
        let mut info =
            SocketInfo::new(SocketAddr::new(ip(address), 1), WireFormat::V2, Arc::new(MountLimits::default()));
        info.user = user.map(str::to_owned);
        info
    };
    let anonymous = socket("203.0.113.1", None);
    assert_eq!((0..5).filter(|_| admission.join(&anonymous, now).is_ok()).count(), 3);
    assert_eq!(admission.join(&anonymous, now), Err("address_rate"));
    for (address, may) in [("203.0.113.2", Ok(())), ("203.0.113.3", Ok(())), ("203.0.113.4", Err("user_rate"))] {
        assert_eq!(admission.join(&socket(address, Some("alice")), now), may);
    }
}

#[test]
fn a_proxy_speaks_for_its_clients_and_for_itself() {
    let admission = Admission::new(&limits(|limits| limits.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]));
    let asked = |peer: &str, value: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(value));
        }
        let (client, via) = admission.client(peer.parse().unwrap(), &headers);
        (client.to_string(), via)
    };
    assert_eq!(asked("10.0.0.1:9", Some("203.0.113.9")), ("203.0.113.9:0".to_owned(), Via::Proxy));
    assert_eq!(asked("10.0.0.1:9", None), ("10.0.0.1:9".to_owned(), Via::ProxyItself));
    assert_eq!(asked("10.0.0.1:9", Some("garbage")), ("10.0.0.1:9".to_owned(), Via::Proxy));
    assert_eq!(asked("203.0.113.1:9", Some("1.1.1.1")), ("203.0.113.1:9".to_owned(), Via::Direct));
    assert!(!admission.is_direct(ip("10.0.0.1")) && admission.is_direct(ip("203.0.113.1")));
}
