//! What is counted.

use std::path::Path;

use anyhow::Result;
use tickwire_proto::v1 as pb;

use crate::{
    callgrind::Count,
    publisher::{Body, GrpcPublisher, HttpPublisher, SYMBOLS, quote, symbol},
    server::Server,
    socket::{Events, Format, Http, Socket},
};

/// Work whose cost is guarded.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What one piece of it is.
    pub(crate) what: &'static str,
    sets: &'static [&'static str],
    /// How much of it the two runs do. The first does some, so that what happens only once is in both.
    amounts: [usize; 2],
    /// How many pieces one unit of the amount has.
    pieces: usize,
    work: fn(&Server, usize) -> Result<()>,
}

/// Sockets of a fan-out: so many that the publishing of an update is a small part of its deliveries.
const SOCKETS: usize = 300;
/// Updates that are published in one batch, so that a socket gets them in one write.
const BURST: usize = 16;
/// Sockets of a market, and how many symbols each of them follows.
const FOLLOWERS: usize = 100;
const FOLLOWED: usize = 10;
/// Quotes in a batch.
const BATCH: usize = 500;

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "delivery",
        what: "an update to one of 300 sockets of a symbol, V2, one update at a time",
        sets: &[],
        amounts: [4, 54],
        pieces: SOCKETS,
        work: |server, rounds| fan_out(server, Format::V2, rounds, 1),
    },
    Scenario {
        name: "delivery_burst",
        what: "an update to one of 300 sockets of a symbol, V2, 16 updates in one batch",
        sets: &[],
        amounts: [1, 8],
        pieces: SOCKETS * BURST,
        work: |server, rounds| fan_out(server, Format::V2, rounds, BURST),
    },
    Scenario {
        name: "delivery_v1",
        what: "as delivery, V1",
        sets: &[],
        amounts: [4, 54],
        pieces: SOCKETS,
        work: |server, rounds| fan_out(server, Format::V1, rounds, 1),
    },
    Scenario {
        name: "delivery_deflate",
        what: "as delivery, with permessage-deflate",
        sets: &[r#"socket=[{"path":"/socket","compress":true}]"#],
        amounts: [4, 54],
        pieces: SOCKETS,
        work: |server, rounds| fan_out(server, Format::Deflate, rounds, 1),
    },
    Scenario {
        name: "delivery_spread",
        what: "an update to one of 100 sockets with 10 of 500 symbols each, V2, each symbol once in a batch",
        // The shards of a market publish one after the other, and a worker may or may not be awake in between.
        sets: &["market.shards=1"],
        amounts: [2, 14],
        pieces: FOLLOWERS * FOLLOWED,
        work: spread,
    },
    Scenario {
        name: "delivery_sse",
        what: "an update to one of 100 event streams of a symbol",
        sets: &[],
        amounts: [4, 34],
        pieces: FOLLOWERS,
        work: event_streams,
    },
    Scenario {
        name: "delivery_room",
        what: "a message of one socket to one of 99 others in a room",
        sets: &[],
        amounts: [4, 44],
        pieces: FOLLOWERS - 1,
        work: room,
    },
    Scenario {
        name: "heartbeat",
        what: "a client's heartbeat and its reply",
        sets: &[],
        amounts: [100, 1_100],
        pieces: 1,
        work: heartbeats,
    },
    Scenario {
        name: "connect_join",
        what: "a connection: accepted, upgraded, joined to a symbol that has a value",
        sets: &[],
        amounts: [20, 220],
        pieces: 1,
        work: |server, count| connect(server, count, true),
    },
    Scenario {
        name: "connect_join_close",
        what: "the same, and closed by its client before the next one",
        sets: &[],
        amounts: [20, 220],
        pieces: 1,
        work: |server, count| connect(server, count, false),
    },
    Scenario {
        name: "join",
        what: "one more join on an open socket",
        sets: &[],
        amounts: [50, 450],
        pieces: 1,
        work: joins,
    },
    Scenario {
        name: "quote_json",
        what: "a quote in an array of 500 over HTTP; nobody follows",
        sets: &[],
        amounts: [4, 24],
        pieces: BATCH,
        work: |server, batches| post(server, Body::Json, batches),
    },
    Scenario {
        name: "quote_ndjson",
        what: "a quote in 500 lines of NDJSON over HTTP; nobody follows",
        sets: &[],
        amounts: [4, 24],
        pieces: BATCH,
        work: |server, batches| post(server, Body::Ndjson, batches),
    },
    Scenario {
        name: "quote_csv",
        what: "a quote in 500 lines of CSV over HTTP; nobody follows",
        sets: &[],
        amounts: [4, 24],
        pieces: BATCH,
        work: |server, batches| post(server, Body::Csv, batches),
    },
    Scenario {
        name: "quote_grpc",
        what: "a quote in a batch of 500 on a stream of PublishAcked; nobody follows",
        sets: &[],
        amounts: [4, 24],
        pieces: BATCH,
        work: stream,
    },
];

impl Scenario {
    /// What one piece of it costs.
    pub(crate) fn cost(&self, binary: &Path) -> Result<Count> {
        let run = |amount| {
            let server = Server::start(binary, self.sets)?;
            (self.work)(&server, amount)?;
            server.stop()
        };
        let [some, more] = self.amounts;
        let pieces = (more - some) * self.pieces;
        Ok((run(more)? - run(some)?).per(pieces as f64))
    }
}

/// Quotes in their order, numbered on from `from`, each of the next symbol.
fn batch(from: usize, count: usize) -> Vec<pb::Quote> {
    (from..from + count).map(|number| quote(symbol(number), number)).collect()
}

fn open(server: &Server, count: usize, format: Format) -> Result<Vec<Socket>> {
    (0..count).map(|_| Socket::open(server.http, format)).collect()
}

/// Each round publishes `updates` of one symbol in one batch, and waits until all sockets have them.
fn fan_out(server: &Server, format: Format, rounds: usize, updates: usize) -> Result<()> {
    let mut publisher = HttpPublisher::connect(server)?;
    // A symbol's first quote changes its status as well.
    publisher.publish(Body::Ndjson, &batch(0, 1))?;
    let mut sockets = open(server, SOCKETS, format)?;
    for socket in &mut sockets {
        socket.join("ticker:SYM000")?;
    }
    for round in 0..rounds {
        let quotes: Vec<_> = (0..updates).map(|number| quote(symbol(0), 1 + round * updates + number)).collect();
        publisher.publish(Body::Ndjson, &quotes)?;
        sockets.iter_mut().try_for_each(|socket| socket.deliveries("update", updates))?;
    }
    Ok(())
}

/// Each round publishes all symbols once.
fn spread(server: &Server, rounds: usize) -> Result<()> {
    let mut publisher = HttpPublisher::connect(server)?;
    publisher.publish(Body::Ndjson, &batch(0, SYMBOLS))?;
    let mut sockets = open(server, FOLLOWERS, Format::V2)?;
    for (index, socket) in sockets.iter_mut().enumerate() {
        (0..FOLLOWED).try_for_each(|place| socket.join(&format!("ticker:{}", symbol(index * FOLLOWED + place))))?;
    }
    for round in 0..rounds {
        publisher.publish(Body::Ndjson, &batch((round + 1) * SYMBOLS, SYMBOLS))?;
        sockets.iter_mut().try_for_each(|socket| socket.deliveries("update", FOLLOWED))?;
    }
    Ok(())
}

fn event_streams(server: &Server, rounds: usize) -> Result<()> {
    let mut publisher = HttpPublisher::connect(server)?;
    publisher.publish(Body::Ndjson, &[quote(symbol(0), 0)])?;
    let streams: Result<Vec<_>> = (0..FOLLOWERS).map(|_| Events::open(server.http, "ticker:SYM000")).collect();
    let mut streams = streams?;
    for round in 0..rounds {
        publisher.publish(Body::Ndjson, &[quote(symbol(0), round + 1)])?;
        streams.iter_mut().try_for_each(|stream| stream.deliveries("update", 1))?;
    }
    Ok(())
}

/// Each round one member shouts.
fn room(server: &Server, rounds: usize) -> Result<()> {
    let mut sockets = open(server, FOLLOWERS, Format::V2)?;
    for socket in &mut sockets {
        socket.join("room:guard")?;
    }
    let message = r#"{"body":"a message of ordinary length, such as people write to one another all day"}"#;
    let (first, others) = sockets.split_first_mut().expect("there are some");
    for _ in 0..rounds {
        first.ask("room:guard", "shout", message)?;
        others.iter_mut().try_for_each(|socket| socket.deliveries("shout", 1))?;
    }
    Ok(())
}

fn heartbeats(server: &Server, count: usize) -> Result<()> {
    let mut socket = Socket::open(server.http, Format::V2)?;
    (0..count).try_for_each(|_| socket.ask("phoenix", "heartbeat", "{}"))
}

fn connect(server: &Server, count: usize, keep: bool) -> Result<()> {
    HttpPublisher::connect(server)?.publish(Body::Ndjson, &batch(0, SYMBOLS))?;
    let mut kept = Vec::new();
    for index in 0..count {
        let mut socket = Socket::open(server.http, Format::V2)?;
        socket.join(&format!("ticker:{}", symbol(index % 10)))?;
        if keep {
            kept.push(socket);
        }
    }
    // A small request behind them: what the last ones have left to do is done when it is answered, or in both runs not.
    let mut http = Http::connect(server.http)?;
    http.send(b"GET /v1/quotes/SYM000 HTTP/1.1\r\nhost: guard\r\n\r\n")?;
    http.head()?;
    Ok(())
}

fn joins(server: &Server, count: usize) -> Result<()> {
    HttpPublisher::connect(server)?.publish(Body::Ndjson, &batch(0, SYMBOLS))?;
    let mut socket = Socket::open(server.http, Format::V2)?;
    (0..count).try_for_each(|index| socket.join(&format!("ticker:{}", symbol(index))))
}

fn post(server: &Server, body: Body, batches: usize) -> Result<()> {
    let mut publisher = HttpPublisher::connect(server)?;
    (0..batches).try_for_each(|index| publisher.publish(body, &batch(index * BATCH, BATCH)))
}

fn stream(server: &Server, batches: usize) -> Result<()> {
    let mut publisher = GrpcPublisher::connect(server)?;
    (0..batches).try_for_each(|index| publisher.publish(batch(index * BATCH, BATCH)))
}
