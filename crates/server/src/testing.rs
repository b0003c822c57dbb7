//! Readers that nothing outside of this crate calls, for the fuzz targets, which try them on anything.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use bytes::Bytes;
use tickwire_channels::PollId;
use tickwire_pubsub::NodeId;

use crate::{admission, auth, grpc, http::longpoll::SessionTokens, topics::ticker::read_max_rate};

static SESSION_TOKENS: LazyLock<SessionTokens> = LazyLock::new(|| SessionTokens::new(&[7; 32], NodeId::new("fuzz", 1)));

/// The mount of the session tokens here.
const MOUNT: &str = "/socket";

/// The session of a token of long polling, if it is one.
#[must_use]
pub fn session_of(token: &str) -> Option<[u8; PollId::LEN]> {
    let session = SESSION_TOKENS.read(token, MOUNT, 1_000_000, Duration::from_secs(3_600));
    session.ok().map(PollId::to_bytes)
}

/// A token with any content, signed as ours are: what a reader finds behind a good signature.
#[must_use]
pub fn session_token(content: &[u8]) -> String {
    SESSION_TOKENS.sign(content.to_vec(), MOUNT)
}

/// The token of a session that was opened at a time in Unix milliseconds.
#[must_use]
pub fn issued_session_token(session: [u8; PollId::LEN], now_ms: u64) -> String {
    SESSION_TOKENS.issue(PollId::from_bytes(session), MOUNT, now_ms)
}

/// Whether contents are public keys in PEM, and whether they are a JSON Web Key Set.
#[must_use]
pub fn are_keys(contents: &[u8]) -> (bool, bool) {
    (auth::check_pem(contents, None).is_ok(), auth::check_jwks_file(contents).is_ok())
}

/// How many quotes a gRPC message holds; why it is refused.
///
/// # Errors
/// If it is no message, or one with more than `limit` quotes.
pub fn grpc_quotes(message: Bytes, limit: usize) -> Result<usize, String> {
    grpc::count_quotes(&message, limit)
}

/// Whose request it is that came from a proxy in `10.0.0.0/8` or `fd00::/16` with these headers; `None` if that cannot be told.
#[must_use]
pub fn forwarded_for(values: &[&[u8]]) -> Option<SocketAddr> {
    admission::forwarded_for(values)
}

/// The interval that a client asks for between updates.
///
/// # Errors
/// If it is none.
pub fn max_rate(text: &str) -> Result<Option<Duration>, String> {
    read_max_rate(text)
}
