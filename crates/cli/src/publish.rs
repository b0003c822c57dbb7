//! `tickwire publish`

mod input;

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    failure::{Failure, Outcome},
    output,
    remote::{self, CaArg, HttpPublisher, KeyArg, Protocol, Refused, Url},
};
use input::{Batch, Format, Item};

/// Rejections that are remembered for the report; more are only counted.
const TOLD_MAX: usize = 1000;

/// How long a server at capacity is asked again before what it has not taken counts as rejected.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publish quotes: one from the command line, those of a file, or NDJSON from standard input
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire publish EURUSD --bid 1.0842 --ask 1.0843
  tickwire publish BTCUSDT --last 61250.10 --last-size 0.5
  tickwire publish --file quotes.csv
  echo '{\"symbol\":\"EURUSD\",\"bid\":\"1.0842\",\"ask\":\"1.0843\"}' | tickwire publish
  tickwire publish --url https://quotes.example --key \"$KEY\" --file quotes.ndjson --json

A quote has symbol, bid, ask, bid_size, ask_size, last, last_size, ts, id, publisher, pseq.
Exit code 1 if any quote was rejected.")]
pub(crate) struct Args {
    /// The symbol to publish one quote of
    #[arg(value_name = "SYMBOL", conflicts_with = "file")]
    symbol: Option<String>,
    #[command(flatten)]
    numbers: Numbers,
    /// Read quotes from a file: .json (one, or an array), .ndjson, .jsonl or .csv with a header; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file's format, where its name does not tell
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The server
    #[arg(long, env = "TICKWIRE_URL", default_value = remote::DEFAULT_URL, value_parser = Url::parse)]
    url: Url,
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    ca: CaArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The fields of one quote. They travel as text: the server keeps every digit.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "One quote")]
struct Numbers {
    /// The best price that a buyer offers
    #[arg(long, value_name = "PRICE", requires = "symbol", allow_negative_numbers = true)]
    bid: Option<String>,
    /// The best price that a seller asks
    #[arg(long, value_name = "PRICE", requires = "symbol", allow_negative_numbers = true)]
    ask: Option<String>,
    /// How much is bid for
    #[arg(long, value_name = "SIZE", requires = "bid", allow_negative_numbers = true)]
    bid_size: Option<String>,
    /// How much is offered
    #[arg(long, value_name = "SIZE", requires = "ask", allow_negative_numbers = true)]
    ask_size: Option<String>,
    /// The price of the last trade
    #[arg(long, value_name = "PRICE", requires = "symbol", allow_negative_numbers = true)]
    last: Option<String>,
    /// The size of the last trade
    #[arg(long, value_name = "SIZE", requires = "last", allow_negative_numbers = true)]
    last_size: Option<String>,
    /// The quote's time: microseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", requires = "symbol")]
    ts: Option<String>,
    /// A name that makes publishing it again harmless
    #[arg(long, requires = "symbol")]
    id: Option<String>,
}

impl Numbers {
    fn quote(&self, symbol: &str) -> Result<Value, Failure> {
        if self.bid.is_none() && self.ask.is_none() && self.last.is_none() {
            return Err(Failure::usage(format!(
                "{symbol} has no price; give --bid and --ask, or --last, for example --bid 1.0842 --ask 1.0843"
            )));
        }
        let mut quote = json!({"symbol": symbol});
        let fields = [
            ("bid", &self.bid),
            ("ask", &self.ask),
            ("bid_size", &self.bid_size),
            ("ask_size", &self.ask_size),
            ("last", &self.last),
            ("last_size", &self.last_size),
            ("id", &self.id),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                quote[name] = json!(value);
            }
        }
        if let Some(ts) = &self.ts {
            quote["ts"] = ts.parse::<i64>().map_or_else(|_| json!(ts), |micros| json!(micros));
        }
        Ok(quote)
    }
}

pub(crate) async fn run(args: Args) -> Outcome {
    if args.url.protocol() == Protocol::Grpc {
        return Err(Failure::usage(format!(
            "--url {}: publish speaks HTTP, for example {}",
            args.url,
            remote::DEFAULT_URL
        )));
    }
    let publisher = HttpPublisher::new(&args.url, args.key.find(&args.url)?, &args.ca)?;
    let mut source = match (&args.symbol, &args.file) {
        (Some(symbol), _) => {
            let quote = args.numbers.quote(symbol)?.to_string();
            input::Source::one(Item { place: symbol.clone(), text: quote })
        }
        (None, Some(file)) if file.as_os_str() != "-" => input::Source::file(file, args.format)?,
        (None, _) => {
            if std::io::stdin().is_terminal() {
                output::say("reading quotes from the terminal, one JSON object a line; end with Ctrl-D");
            }
            input::Source::stdin(args.format)
        }
    };
    let mut tally = Tally::default();
    while let Some(batch) = source.next().await? {
        publish(&publisher, batch, &mut tally).await?;
    }
    if tally.accepted == 0 && tally.rejected == 0 {
        output::say("there was no quote to publish; the first line of CSV is its header");
    }
    tally.report(args.json)
}

/// Publishes a batch, again and again what a server at capacity has not taken.
async fn publish(publisher: &HttpPublisher, mut batch: Batch, tally: &mut Tally) -> Outcome {
    let began = Instant::now();
    loop {
        let report = publisher.send(batch.content_type(), batch.body(), batch.items.len()).await?;
        tally.accepted += report.accepted;
        tally.duplicates += report.duplicates;
        let again = |refused: &Refused| refused.retryable && began.elapsed() < PATIENCE;
        let (retry, refused): (Vec<_>, Vec<_>) = report.refused.into_iter().partition(again);
        for refused in refused {
            tally.reject(&batch, refused);
        }
        if retry.is_empty() {
            return Ok(());
        }
        batch.keep(&retry);
        tokio::time::sleep(report.retry_after.unwrap_or(Duration::from_millis(100))).await;
    }
}

/// The server counts lines in a request, the user in a file: what it says of them is left out.
fn without_line(error: &str) -> &str {
    let rest = error.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    rest.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).map_or(error, |(_, rest)| rest)
}

/// What became of all quotes.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    /// Of the accepted ones: taken before.
    duplicates: u64,
    rejected: u64,
    told: Vec<(String, Refused)>,
}

impl Tally {
    fn reject(&mut self, batch: &Batch, mut refused: Refused) {
        self.rejected += 1;
        refused.error = without_line(&refused.error).to_owned();
        if self.told.len() < TOLD_MAX {
            let place = batch
                .items
                .get(refused.index)
                .map_or_else(|| format!("quote {}", refused.index + 1), |item| item.place.clone());
            self.told.push((place, refused));
        }
    }

    fn report(&self, json: bool) -> Outcome {
        if json {
            let rejected: Vec<_> = self
                .told
                .iter()
                .map(|(place, refused)| json!({"place": place, "error": refused.error, "code": refused.code, "retryable": refused.retryable}))
                .collect();
            output::print_json(
                &json!({"accepted": self.accepted, "duplicates": self.duplicates, "rejected_total": self.rejected, "rejected": rejected}),
            )?;
        } else {
            for (place, refused) in &self.told {
                output::say(format_args!("{place}: {}", refused.error));
            }
            let duplicates = match self.duplicates {
                0 => String::new(),
                1 => " (1 a duplicate)".to_owned(),
                count => format!(" ({count} duplicates)"),
            };
            output::print(format_args!("accepted {}{duplicates}, rejected {}\n", self.accepted, self.rejected))?;
        }
        if self.rejected == 0 { Ok(()) } else { Err(Failure::Told) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file() {
        assert_eq!(without_line("line 2: expected an object"), "expected an object");
        assert_eq!(without_line("line of sight: no"), "line of sight: no");
        assert_eq!(without_line("bid must be above zero"), "bid must be above zero");
    }
}
