//! The loop of a worker.

use std::sync::Arc;

use mio::{Events, Poll, Token};

use super::{Command, Shared, WorkersConfig};
use crate::router::Router;

/// The waker's place among the sockets' tokens.
pub(super) const WAKER: Token = Token(usize::MAX);

pub(super) struct Worker {
    poll: Poll,
    shared: Arc<Shared>,
    config: Arc<WorkersConfig>,
    router: Arc<Router>,
    commands: Vec<Command>,
}

impl Worker {
    pub(super) fn new(poll: Poll, shared: Arc<Shared>, config: Arc<WorkersConfig>, router: Arc<Router>) -> Self {
        Self { poll, shared, config, router, commands: Vec::new() }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let _ = self.poll.poll(&mut events, None);
            self.shared.hush();
            self.shared.take_commands(&mut self.commands);
            if self.commands.drain(..).any(|command| matches!(command, Command::Exit)) {
                return;
            }
        }
    }
}
