//! The header `Sec-WebSocket-Protocol`: which subprotocol is answered, and the token that Phoenix 1.8 clients put there because a browser
//! lets a page set no other header of an upgrade.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// What stands before a token, in `phoenix.js` and here.
const BEARER: &str = "base64url.bearer.phx.";
/// What a client that sends a token offers beside it, since a browser fails an upgrade that is answered with none of what it offered.
const PHOENIX: &str = "phoenix";

/// The subprotocols of an endpoint. With neither feature, what clients offer is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protocols {
    /// Whether a token is taken from a bearer entry; `phoenix` is then the first subprotocol of the endpoint.
    pub auth_token: bool,
    /// The application's own, the preferred one first.
    pub own: Vec<String>,
}

/// What is taken from the header of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// The subprotocol to answer with.
    pub protocol: Option<String>,
    /// The token that came with it.
    pub auth_token: Option<AuthToken>,
}

/// A token as a client sent it, not verified. Appears in no log: neither `Debug` nor anything else but [`expose`](Self::expose) shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken(String);

/// Why a request is refused for its subprotocols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// None of them is the endpoint's.
    #[error(
        "of the subprotocols offered ({seen}) none is taken here: expected {expected}, or no Sec-WebSocket-Protocol at all"
    )]
    NotAllowed {
        /// What the client offered, without tokens.
        seen: String,
        /// The endpoint's.
        expected: String,
    },
    /// A bearer entry with something else than base64 of UTF-8 behind its prefix.
    #[error(
        "the subprotocol {BEARER}… holds no token: expected base64 of the standard alphabet (+ and /) and UTF-8 once it is decoded"
    )]
    Token,
}

impl ProtocolError {
    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotAllowed { .. } => 403,
            Self::Token => 400,
        }
    }

    /// The stable name, for metrics and `docs/codes.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "subprotocol_not_allowed",
            Self::Token => "bad_auth_token",
        }
    }
}

impl Protocols {
    /// Chooses from the values of `Sec-WebSocket-Protocol`; several lines are one list (RFC 6455 §11.3.4). Names are compared byte for byte.
    ///
    /// WIRE: one bearer entry is the token and no longer an offer; of several none is. What is left, if anything, must hold one of the
    /// endpoint's subprotocols, of which `phoenix` comes first where tokens are taken.
    ///
    /// # Errors
    /// If what is offered cannot be taken.
    pub fn choose<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Chosen, ProtocolError> {
        let taken: Vec<&str> =
            self.auth_token.then_some(PHOENIX).into_iter().chain(self.own.iter().map(String::as_str)).collect();
        if taken.is_empty() {
            return Ok(Chosen::default());
        }
        let mut offered: Vec<&[u8]> =
            values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect();
        offered.retain(|name| !name.is_empty());
        let auth_token = if self.auth_token { take_token(&mut offered)? } else { None };
        if offered.is_empty() {
            return Ok(Chosen { protocol: None, auth_token });
        }
        match taken.iter().find(|name| offered.contains(&name.as_bytes())) {
            Some(name) => Ok(Chosen { protocol: Some((*name).to_owned()), auth_token }),
            None => Err(ProtocolError::NotAllowed { seen: names(&offered), expected: taken.join(" or ") }),
        }
    }
}

/// Takes the one bearer entry out of what is offered.
fn take_token(offered: &mut Vec<&[u8]>) -> Result<Option<AuthToken>, ProtocolError> {
    let is_bearer = |name: &&[u8]| name.starts_with(BEARER.as_bytes());
    if offered.iter().filter(|name| is_bearer(name)).count() != 1 {
        return Ok(None);
    }
    let Some(place) = offered.iter().position(is_bearer) else { return Ok(None) };
    AuthToken::decode(&offered.remove(place)[BEARER.len()..]).map(Some)
}

/// For a message to an operator: bounded, and without what may be a token.
fn names(offered: &[&[u8]]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown = offered.iter().take(SHOWN_MAX).map(|name| match name.starts_with(BEARER.as_bytes()) {
        true => format!("{BEARER}…"),
        false => format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(64)])),
    });
    let mut names = shown.collect::<Vec<_>>().join(", ");
    if offered.len() > SHOWN_MAX {
        names.push_str(", …");
    }
    names
}

impl AuthToken {
    /// A token that came as it is, such as in the header of a long poll.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Decodes what follows the prefix. As Phoenix does: the standard alphabet in spite of the prefix, and whether it is padded does not
    /// matter, nor do bits that its last character has too many.
    fn decode(encoded: &[u8]) -> Result<Self, ProtocolError> {
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        let bytes =
            GeneralPurpose::new(&alphabet::STANDARD, config).decode(encoded).map_err(|_| ProtocolError::Token)?;
        String::from_utf8(bytes).map(Self).map_err(|_| ProtocolError::Token)
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocols(auth_token: bool, own: &[&str]) -> Protocols {
        Protocols { auth_token, own: own.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// What is answered, or the status of the refusal, and the token.
    fn choose(protocols: &Protocols, lines: &[&str]) -> Result<(Option<String>, Option<String>), u16> {
        let chosen = protocols.choose(lines.iter().map(|line| line.as_bytes())).map_err(|error| error.status())?;
        Ok((chosen.protocol, chosen.auth_token.map(|token| token.expose().to_owned())))
    }

    #[test]
    fn a_token_is_taken_from_the_one_bearer_entry() {
        let phoenix = || Some("phoenix".to_owned());
        let token = |text: &str| Some(text.to_owned());
        let on = protocols(true, &[]);
        for (lines, expected) in [
            (&[][..], Ok((None, None))),
            (&[""], Ok((None, None))),
            (&[" , ,"], Ok((None, None))),
            (&["phoenix"], Ok((phoenix(), None))),
            (&["phoenix, base64url.bearer.phx.MTIzNA"], Ok((phoenix(), token("1234")))),
            (&["base64url.bearer.phx.MTIzNA,phoenix"], Ok((phoenix(), token("1234")))),
            (&["phoenix", "base64url.bearer.phx.MTIzNA"], Ok((phoenix(), token("1234")))),
            (&["base64url.bearer.phx.MTIzNA"], Ok((None, token("1234")))),
            (&["foo, phoenix, base64url.bearer.phx.MTIzNA"], Ok((phoenix(), token("1234")))),
            (&["base64url.bearer.phx."], Ok((None, token("")))),
            // The alphabet has + and /, and says nothing without its padding or with it.
            (&["phoenix, base64url.bearer.phx.w7/Dvg"], Ok((phoenix(), token("ÿþ")))),
            (&["phoenix, base64url.bearer.phx.fn5+fn4="], Ok((phoenix(), token("~~~~~")))),
            (&["phoenix, base64url.bearer.phx.MTIzNB"], Ok((phoenix(), token("1234")))),
            (&["phoenix, base64url.bearer.phx.MTIz, base64url.bearer.phx.NDU2"], Ok((phoenix(), None))),
            (&["base64url.bearer.phx.MTIz, base64url.bearer.phx.NDU2"], Err(403)),
            (&["foo"], Err(403)),
            (&["foo, base64url.bearer.phx.MTIzNA"], Err(403)),
            (&["Phoenix"], Err(403)),
            (&["phoenix2"], Err(403)),
            (&["Base64url.bearer.phx.MTIzNA"], Err(403)),
            (&["phoenix, base64url.bearer.phx.fn5-fn4"], Err(400)),
            (&["phoenix, base64url.bearer.phx.M"], Err(400)),
            (&["phoenix, base64url.bearer.phx./w"], Err(400)),
            (&["phoenix, base64url.bearer.phx.MT IzNA"], Err(400)),
        ] {
            assert_eq!(choose(&on, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_servers_order_decides_among_its_own() {
        let own = protocols(false, &["alpha", "beta"]);
        let both = protocols(true, &["alpha", "beta"]);
        let answer = |name: &str| Ok((Some(name.to_owned()), None));
        for (offered, of_own, of_both) in [
            ("beta", answer("beta"), answer("beta")),
            ("beta, alpha", answer("alpha"), answer("alpha")),
            ("x, beta", answer("beta"), answer("beta")),
            ("beta, phoenix", answer("beta"), answer("phoenix")),
            ("x", Err(403), Err(403)),
            ("ALPHA", Err(403), Err(403)),
            ("phoenix", Err(403), answer("phoenix")),
            ("base64url.bearer.phx.!", Err(403), Err(400)),
        ] {
            assert_eq!(choose(&own, &[offered]), of_own, "{offered}");
            assert_eq!(choose(&both, &[offered]), of_both, "{offered}, with tokens");
        }
        let with_token = choose(&both, &["beta, base64url.bearer.phx.MTIzNA"]);
        assert_eq!(with_token, Ok((Some("beta".to_owned()), Some("1234".to_owned()))));
    }

    #[test]
    fn without_either_feature_offers_are_ignored() {
        for offered in ["alpha", "phoenix, base64url.bearer.phx.!!", "\u{e9}"] {
            assert_eq!(choose(&Protocols::default(), &[offered]), Ok((None, None)), "{offered}");
        }
    }

    #[test]
    fn a_refusal_names_both_sides_and_no_token() {
        let offered = ["foo, base64url.bearer.phx.c2VjcmV0, base64url.bearer.phx.c2VjcmV0"];
        let error = protocols(true, &["alpha"]).choose(offered.iter().map(|line| line.as_bytes())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "of the subprotocols offered (\"foo\", base64url.bearer.phx.…, base64url.bearer.phx.…) none is taken here: expected phoenix or \
             alpha, or no Sec-WebSocket-Protocol at all"
        );
        let many = vec!["x"; 1_000].join(",");
        let long = "y".repeat(100_000);
        for offered in [many, long] {
            let error = protocols(true, &[]).choose([offered.as_bytes()].into_iter()).unwrap_err();
            assert!(error.to_string().len() < 300);
        }
        let chosen = protocols(true, &[]).choose([&b"base64url.bearer.phx.c2VjcmV0"[..]].into_iter()).unwrap();
        assert!(!format!("{chosen:?}").contains("secret"));
    }
}
