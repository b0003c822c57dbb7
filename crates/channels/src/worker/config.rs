//! What an operator can choose about workers.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::socket::SocketInfo;

/// Says whether a socket may join one more topic, or why not, as the label of a metric. It is called on the workers' threads for every
/// join and must not block.
pub type JoinLimit = Arc<dyn Fn(&SocketInfo, Instant) -> Result<(), &'static str> + Send + Sync>;

/// How many workers there are, and their bounds.
#[derive(Clone)]
pub struct WorkersConfig {
    /// Threads. 0: one per core.
    pub workers: usize,
    /// Messages that may wait in a worker's inbox. Beyond it the node admits no new ones until the worker has caught up.
    pub inbox_capacity: usize,
    /// Once the oldest message in the inbox is older than this, only the newest update of each topic in it goes out.
    pub conflate_after: Duration,
    /// Bytes that one socket may leave unwritten behind the frame that it is being sent. Beyond it updates are merged to one per channel,
    /// and if that is not enough the socket is closed, 1013 `slow_consumer`.
    pub outbox_bytes_max: usize,
    /// How long a socket may take none of what we write before it is cut, `write_timeout`.
    pub write_timeout: Duration,
    /// How long a join may take before it is refused, `join timeout`.
    pub join_timeout: Duration,
    /// Joins per second on the whole node, and as a burst; beyond them a join is refused, `busy`. `None`: any number.
    pub joins_per_second: Option<NonZeroU32>,
    /// What else limits joins, by who makes them; those beyond it are refused, `busy`. It is asked before the node's own rate, which a client
    /// that is over its own cannot use up so.
    pub join_limit: Option<JoinLimit>,
    /// Messages that may wait behind a join that has not been decided; one more is refused, `join pending`.
    pub pending_messages_max: usize,
    /// Bytes of payload that may wait so on one socket.
    pub pending_bytes_max: usize,
    /// Connections that may wait to be adopted by one worker.
    pub adopting_max: usize,
    /// Size of the kernel's send buffer of a socket, in bytes. `None`: the kernel's choice, which hides megabytes of old prices behind a
    /// slow link.
    pub send_buffer: Option<usize>,
    /// Called on each worker's thread before it starts, with its number: to pin it to a core.
    pub on_thread_start: Option<Arc<dyn Fn(usize) + Send + Sync>>,
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            inbox_capacity: 65_536,
            conflate_after: Duration::from_millis(10),
            outbox_bytes_max: 1 << 20,
            write_timeout: Duration::from_secs(30),
            join_timeout: Duration::from_secs(5),
            joins_per_second: None,
            join_limit: None,
            pending_messages_max: 64,
            pending_bytes_max: 1 << 20,
            adopting_max: 4_096,
            send_buffer: None,
            on_thread_start: None,
        }
    }
}

impl fmt::Debug for WorkersConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersConfig")
            .field("workers", &self.workers)
            .field("inbox_capacity", &self.inbox_capacity)
            .field("conflate_after", &self.conflate_after)
            .field("outbox_bytes_max", &self.outbox_bytes_max)
            .finish_non_exhaustive()
    }
}
