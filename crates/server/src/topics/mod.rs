//! What a topic does on join: the kinds of channels of this server.

pub(crate) mod room;
pub(crate) mod ticker;
