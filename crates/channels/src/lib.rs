//! The Phoenix Channels protocol, and the workers that own the sockets.

pub mod close;
pub mod json;
pub mod message;
pub mod serializer;
pub mod websocket;
