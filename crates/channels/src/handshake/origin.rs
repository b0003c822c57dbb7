//! Which web pages may connect. Browsers tell the page's origin, and a page of somebody else could use its visitor's session here.

use std::{fmt, str::FromStr};

/// The origins that may connect. A request without an `Origin` header is not a browser's, and may always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// All.
    Any,
    /// Pages of the host that the request was sent to, by its `Host` header; scheme and port do not matter.
    #[default]
    SameHost,
    /// Those that one of the rules allows.
    List(Vec<OriginRule>),
}

/// Allows some origins: `https://host[:port]` (its scheme's usual port if it has none), `//host` (any scheme and port), or `//*.host` (the
/// host itself and everything below it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRule {
    scheme: Option<String>,
    /// In lower case, without the `*.`.
    host: String,
    subdomains: bool,
    port: Option<u16>,
}

/// Why a text is not an [`OriginRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{seen:?} is not an origin: expected https://host, https://host:port, //host or //*.host, without a path")]
pub struct OriginRuleError {
    /// The text.
    pub seen: String,
}

/// A page may not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin {seen:?} is not allowed: expected {expected}")]
pub struct OriginMismatch {
    /// The beginning of the `Origin` header.
    pub seen: String,
    /// What would have been allowed.
    pub expected: String,
}

/// Characters of a header that a refusal repeats: enough to recognise it, no more than a line of a log should have.
const SHOWN_MAX: usize = 200;

impl Origins {
    /// Checks a request's `Origin` header against its `Host` header or the list.
    ///
    /// # Errors
    /// If the origin is not allowed.
    pub fn check(&self, origin: Option<&[u8]>, host: Option<&[u8]>) -> Result<(), OriginMismatch> {
        let Some(origin) = origin else { return Ok(()) };
        let seen = std::str::from_utf8(origin).ok().and_then(Origin::parse);
        let own_host = host.and_then(|host| Some(split_port(std::str::from_utf8(host).ok()?)?.0));
        let allowed = match (self, &seen) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::SameHost, Some(seen)) => own_host.is_some_and(|own| own.eq_ignore_ascii_case(seen.host)),
            (Self::List(rules), Some(seen)) => rules.iter().any(|rule| rule.allows(seen)),
        };
        if allowed {
            return Ok(());
        }
        let expected = match self {
            Self::List(rules) => rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
            _ => match own_host {
                Some(own) => format!("the request's own host {:?}", shown(own)),
                None => "the request's own host, but it has no valid Host header".to_owned(),
            },
        };
        Err(OriginMismatch { seen: shown(&String::from_utf8_lossy(origin)), expected })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// An `Origin` header, or a rule's text: `scheme://host[:port]`.
struct Origin<'a> {
    /// Empty in a rule for any scheme.
    scheme: &'a str,
    host: &'a str,
    /// The one given, else the scheme's usual one.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = match text.strip_prefix("//") {
            Some(authority) => ("", authority),
            None => text.split_once("://").filter(|(scheme, _)| !scheme.is_empty())?,
        };
        let (host, port) = split_port(authority)?;
        let scheme_is_valid = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if host.is_empty() || !scheme_is_valid {
            return None;
        }
        let port = port.or_else(|| match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        Some(Self { scheme, host, port })
    }
}

/// Splits `host[:port]`. An IPv6 address stands in brackets and keeps them.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    if host.contains(['/', '\\', '?', '#', '@', ' ']) {
        return None;
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((host, port))
}

impl OriginRule {
    fn allows(&self, origin: &Origin<'_>) -> bool {
        let scheme = self.scheme.as_deref().is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme));
        let port = if self.scheme.is_some() {
            self.port == origin.port
        } else {
            self.port.is_none_or(|port| Some(port) == origin.port)
        };
        scheme && port && self.allows_host(origin.host)
    }

    fn allows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match host.strip_suffix(&self.host) {
            Some("") => true,
            Some(below) => self.subdomains && below.ends_with('.'),
            None => false,
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginRuleError;

    fn from_str(text: &str) -> Result<Self, OriginRuleError> {
        let error = || OriginRuleError { seen: text.to_owned() };
        let origin = Origin::parse(text).ok_or_else(error)?;
        let any_scheme = origin.scheme.is_empty();
        let (host, subdomains) = match origin.host.strip_prefix("*.") {
            Some(host) if any_scheme => (host, true),
            _ => (origin.host, false),
        };
        if host.is_empty() || host.contains('*') {
            return Err(error());
        }
        Ok(Self {
            scheme: (!any_scheme).then(|| origin.scheme.to_ascii_lowercase()),
            host: host.to_ascii_lowercase(),
            subdomains,
            port: origin.port,
        })
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_ref().map_or(String::new(), |scheme| format!("{scheme}:"));
        let below = if self.subdomains { "*." } else { "" };
        write!(f, "{scheme}//{below}{}", self.host)?;
        let usual = match self.scheme.as_deref() {
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        };
        match self.port {
            Some(port) if Some(port) != usual => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}
