//! `tickwire watch`

mod lines;
mod screen;
mod table;

use std::{io::IsTerminal as _, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, future, stream};
use tickwire_client::{Change, Client, Disconnect, Event, Follow, Link, Options, Params, Payload, Ticker};
use tickwire_market::Symbol;
use tokio::sync::watch;

use crate::{
    failure::{Failure, Outcome},
    remote,
};

/// Join topics and show what arrives: a live table on a terminal, one JSON object a line with --json or into a pipe
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire watch EURUSD GBPUSD                     a table; q quits
  tickwire watch ticker:BTCUSDT --max-rate 250ms   at most four updates a second
  tickwire watch EURUSD --json | jq -r .payload.bid
  tickwire watch EURUSD --count 10 --for 5s        for scripts: whichever comes first
  tickwire watch room:lobby --token \"$(tickwire token --sub alice)\"

A name without a colon is a symbol: EURUSD is ticker:EURUSD. Lines are {topic, event, payload}.
A lost connection is opened again, and tickers resume where they were.")]
pub(crate) struct Args {
    /// Topics, or symbols
    #[arg(required = true, value_name = "TOPIC", value_parser = parse_topic)]
    topics: Vec<String>,
    /// The socket
    #[arg(long, env = "TICKWIRE_URL", default_value = "ws://127.0.0.1:4000/socket", value_parser = parse_url)]
    url: Options,
    /// The client token
    #[arg(long, env = "TICKWIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    ca: remote::CaArg,
    /// At most one update of a symbol per interval, always ending on the latest
    #[arg(long, value_name = "TIME", value_parser = remote::parse_time)]
    max_rate: Option<Duration>,
    /// Print one JSON object a line, on a terminal too
    #[arg(long)]
    json: bool,
    /// Stop after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = remote::parse_time)]
    duration: Option<Duration>,
}

pub(crate) fn parse_url(text: &str) -> Result<Options, String> {
    Options::new(text).map_err(|error| error.to_string())
}

/// What arrived on a topic, which is given by its place on the command line.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is moved, not kept")]
enum Seen {
    Ticker(Change),
    Joined(Payload),
    Plain(Event),
}

type Feed = Pin<Box<dyn Stream<Item = (usize, Seen)>>>;

pub(crate) async fn run(args: Args) -> Outcome {
    let mut topics = args.topics;
    let mut known = std::collections::HashSet::new();
    topics.retain(|topic| known.insert(topic.clone()));

    let mut options = args.url.clone().token(args.token.clone());
    options.tls = args.ca.tls()?;
    let client = Client::connect(options).await?;
    let follow = Follow { max_rate: args.max_rate, since: None };
    let joins = topics.iter().enumerate().map(|(index, topic)| join(&client, index, topic, follow.clone()));
    let feeds = future::try_join_all(joins).await?;
    let link = client.link();
    let limits = Limits { count: args.count, duration: args.duration };
    let watched = Watched { topics, feed: stream::select_all(feeds), link: link.clone(), limits };
    if args.json || !std::io::stdout().is_terminal() {
        lines::show(watched).await?;
    } else {
        screen::show(watched).await?;
    }
    let closed = match &*link.borrow() {
        Link::Closed(why) if *why != Disconnect::Local => Some(why.to_string()),
        _ => None,
    };
    client.close().await;
    closed.map_or(Ok(()), |why| Err(Failure::failed(why)))
}

/// What there is to show, in whichever form.
struct Watched {
    /// By their places on the command line.
    topics: Vec<String>,
    feed: stream::SelectAll<Feed>,
    link: watch::Receiver<Link>,
    limits: Limits,
}

/// When to stop by itself.
struct Limits {
    count: Option<u64>,
    duration: Option<Duration>,
}

impl Limits {
    /// Whether so many messages are enough.
    fn reached(&self, seen: u64) -> bool {
        self.count.is_some_and(|count| seen >= count)
    }

    /// Ends with the time that was given; never without one.
    async fn time_is_up(&self) {
        match self.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => future::pending().await,
        }
    }
}

/// Reads a topic; a bare symbol means its ticker.
fn parse_topic(text: &str) -> Result<String, String> {
    let symbol = match text.strip_prefix("ticker:") {
        Some(symbol) => symbol,
        None if text.contains(':') => return Ok(text.to_owned()),
        None => text,
    };
    let symbol = Symbol::new(symbol).map_err(|error| format!("{error}, for example EURUSD"))?;
    Ok(symbol.ticker_topic().to_string())
}

async fn join(client: &Client, index: usize, topic: &str, follow: Follow) -> Result<Feed, Failure> {
    if topic.starts_with("ticker:") {
        let ticker = Ticker::join(client, topic, follow).await.map_err(Failure::failed)?;
        return Ok(Box::pin(ticker.map(move |change| (index, Seen::Ticker(change)))));
    }
    let (reply, channel) = client.join(topic, Params::none()).await.map_err(Failure::failed)?;
    let first = stream::iter([(index, Seen::Joined(reply))]);
    Ok(Box::pin(first.chain(channel.map(move |event| (index, Seen::Plain(event))))))
}

/// What a change of the connection means to the user.
fn describe(link: &Link) -> String {
    match link {
        Link::Up => "connected again".to_owned(),
        Link::Down { why, retry_in, .. } => format!("{why}; trying again in {:.1} s", retry_in.as_secs_f64()),
        Link::Closed(why) => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_symbol_means_its_ticker() {
        assert_eq!(parse_topic("EURUSD").unwrap(), "ticker:EURUSD");
        assert_eq!(parse_topic("ticker:EUR/USD").unwrap(), "ticker:EUR/USD");
        assert_eq!(parse_topic("room:lobby").unwrap(), "room:lobby");
        for bad in ["", "EUR USD", "ticker:", "ticker:EUR USD"] {
            assert!(parse_topic(bad).unwrap_err().contains("for example EURUSD"), "{bad}");
        }
    }
}
