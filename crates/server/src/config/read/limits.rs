//! `[limits]` and `[listen.tls]`: what comes in, and how.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use tickwire_channels::WorkersConfig;

use super::{HOUR, Section, millis, secs};
use crate::admission::Network;
use crate::config::layers::{Item, Node};
use crate::config::settings::{LimitsConfig, TlsFiles};
use crate::config::values::{Setting, Size};
use crate::tls::Identity;

pub(super) fn limits(s: &Section<'_>) -> LimitsConfig {
    let rate_max = 10_000_000;
    LimitsConfig {
        connections: s.auto("connections", 1, 10_000_000),
        connections_per_address: s.unlimited("connections_per_address", 1, 10_000_000),
        connections_per_user: s.unlimited("connections_per_user", 1, 10_000_000),
        accepts_per_second: s.between("accepts_per_second", 10_000, 1, rate_max),
        accepts_per_second_per_address: s.unlimited("accepts_per_second_per_address", 1, rate_max),
        joins_per_second: s.between("joins_per_second", 50_000, 1, rate_max),
        joins_per_second_per_address: s.unlimited("joins_per_second_per_address", 1, rate_max),
        joins_per_second_per_user: s.unlimited("joins_per_second_per_user", 1, rate_max),
        messages_per_second: s.between("messages_per_second", 10_000, 1, rate_max),
        outbox_bytes: s
            .between("outbox_bytes", Size(WorkersConfig::default().outbox_bytes_max), Size(16 << 10), Size(1 << 30))
            .0,
        body_bytes: s.between("body_bytes", Size(8 << 20), Size(1 << 10), Size(1 << 30)).0,
        header_timeout: s.between("header_timeout", secs(10), millis(100), HOUR),
        keep_alive_timeout: s.between("keep_alive_timeout", secs(75), millis(100), Duration::from_secs(24 * 3600)),
        trusted_proxies: s.value("trusted_proxies", Vec::<Network>::new()),
        client_address_header: s.value_by(
            "client_address_header",
            HeaderName::from_static("x-forwarded-for"),
            read_header,
            |header| header.as_str().to_owned().show(),
        ),
    }
}

impl Setting for Network {
    fn read(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Text(text) | Item::Raw(text) => text.trim().parse(),
            _ => Err("is not a network in quotes, for example \"10.0.0.0/8\"".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

/// The name of a header whose values are addresses.
fn read_header(node: &Node) -> Result<HeaderName, String> {
    let text = String::read(node)?.to_ascii_lowercase();
    if text == "forwarded" {
        return Err("is of another form than a list of addresses; have the proxy write \"x-forwarded-for\"".to_owned());
    }
    HeaderName::try_from(text).map_err(|_| "is not the name of a header, for example \"x-forwarded-for\"".to_owned())
}

/// The files are read here as well, so that `config check` finds what would keep the server from starting.
pub(super) fn tls(s: &Section<'_>) -> Option<TlsFiles> {
    let (cert, key) = (s.option::<PathBuf>("cert"), s.option::<PathBuf>("key"));
    let missing = match (&cert, &key) {
        (Some(_), None) if s.is_sound("key") => Some(("cert", "key")),
        (None, Some(_)) if s.is_sound("cert") => Some(("key", "cert")),
        _ => None,
    };
    if let Some((has, needs)) = missing {
        s.problem(has, format!("needs {} beside it: TLS takes both, or neither", s.key(needs)));
    }
    let files = TlsFiles { cert: cert?, key: key? };
    if let Err(error) = Identity::read(&files) {
        s.problem(error.setting(), error.to_string());
    }
    Some(files)
}
