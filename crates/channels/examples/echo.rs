//! A channel of one's own: `echo:*` answers `echo` with what it got, and passes `shout` on to everyone on the topic.
//!
//! Run it with `cargo run -p tickwire-channels --example echo`, and connect any Phoenix client to `ws://127.0.0.1:4500/socket`.

use std::{io, sync::Arc};

use tickwire_channels::{
    Channel, Context, Endpoint, Flow, JoinRequest, Joined, Joining, Payload, Router, Status, Workers, WorkersConfig,
    listen,
};
use tickwire_pubsub::{LoneNode, NodeId, PubSub};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::task::TaskTracker;

struct Echo;

impl Channel for Echo {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match event {
            "echo" => context.reply(Status::Ok, payload.clone()),
            "shout" => {
                let status = if context.broadcast(event, payload.clone()).is_ok() { Status::Ok } else { Status::Error };
                context.reply(status, Payload::empty());
            }
            _ => {}
        }
        Flow::Continue
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let router = Router::new()
        .on("echo:*", |_request: JoinRequest| Joining::from(Joined::new(Echo)))
        .map_err(io::Error::other)?;
    let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("echo", 1))));
    let workers = Workers::start(WorkersConfig::default(), router, &pubsub, &Handle::current(), &TaskTracker::new())?;
    let listener = TcpListener::bind("127.0.0.1:4500").await?;
    listen(listener, Endpoint::new("/socket"), workers).await;
    Ok(())
}
