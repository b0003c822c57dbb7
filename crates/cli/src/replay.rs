//! `tickwire replay`

use std::{
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tickwire_market::{
    Symbol,
    feed::{
        Speed,
        replay::{Observer, Problem, Progress, Replay, ReplayConfig, ReplayError, SymbolMap},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    failure::{Failure, Outcome},
    output,
    remote::{CaArg, KeyArg, Url},
    sink::ServerSink,
};

/// Problems that are told one by one; more are only counted.
const TOLD_MAX: usize = 100;

/// Publish recorded quotes at their recorded pace
///
/// Plays quote CSV (milliseconds since midnight,bid,ask) and recorded Binance streams (JSON lines), gzipped or not, files and folders.
/// All of them start together; the times of the quotes are shifted to now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire replay ticks/ --to http://127.0.0.1:4000
  tickwire replay oanda-eurusd-20140508-quote.csv.gz --to grpc://127.0.0.1:4001 --speed 10
  tickwire replay ticks/ --to http://127.0.0.1:4000 --speed max --json
  tickwire replay ticks/ --to http://127.0.0.1:4000 --only EURUSD --loop

http publishes by POST /v1/quotes, grpc by an acknowledged stream, which is faster. Exit code 1 if a
line could not be read or a quote was rejected; the rest is played all the same.")]
pub(crate) struct Args {
    /// Recorded files, and folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The server: http://HOST:4000 or grpc://HOST:4001
    #[arg(long, value_name = "URL", env = "TICKWIRE_URL", value_parser = Url::parse)]
    to: Url,
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    ca: CaArg,
    /// A multiple of the recorded pace, or max
    #[arg(long, default_value = "1")]
    speed: Speed,
    /// Start every recording again at its end, until interrupted
    #[arg(long = "loop")]
    repeat: bool,
    /// Play only this symbol; may be repeated
    #[arg(long, value_name = "SYMBOL")]
    only: Vec<Symbol>,
    /// Give a recording another symbol, such as oanda-eurusd=EUR/USD; may be repeated
    #[arg(long = "map", value_name = "SOURCE=SYMBOL", value_parser = parse_mapping)]
    mappings: Vec<(String, Symbol)>,
    /// Start quote CSV at its first tick, instead of at 12:30 UTC, when the market is busy
    #[arg(long)]
    from_start: bool,
    /// Print a JSON object at the end
    #[arg(long)]
    json: bool,
}

fn parse_mapping(text: &str) -> Result<(String, Symbol), String> {
    let (source, symbol) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not SOURCE=SYMBOL, for example oanda-eurusd=EUR/USD"))?;
    let symbol = symbol.parse().map_err(|error| format!("{symbol:?}: {error}"))?;
    Ok((source.to_owned(), symbol))
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Recording(_) | ReplayError::Unnamed(_) => Self::usage(error),
            ReplayError::Sink(_) => Self::failed(error),
        }
    }
}

pub(crate) async fn run(args: Args) -> Outcome {
    let replay = open(&args)?;
    let sink = ServerSink::connect(&args.to, args.key.find(&args.to)?, &args.ca).await?;
    let screen = Screen::new(replay.files(), args.repeat);
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let began = Instant::now();
    let play = replay.play("replay", &sink, &screen, &tracker, &cancel);
    let mut play = std::pin::pin!(play);
    let mut interrupted = false;
    let played = tokio::select! {
        played = &mut play => played,
        _ = tokio::signal::ctrl_c() => {
            interrupted = true;
            cancel.cancel();
            play.await
        }
    };
    let problems = screen.finish();
    let progress = match (played, sink.failure()) {
        (_, Some(failure)) => return Err(failure),
        (played, None) => played?,
    };
    report(&args, &progress, &problems, &sink, began.elapsed())?;
    if progress.accepted == 0 && !interrupted {
        return Err(nothing_played(&args.only));
    }
    Ok(())
}

/// A replay that plays nothing is a mistake, most often in a name.
fn nothing_played(only: &[Symbol]) -> Failure {
    if only.is_empty() {
        return Failure::failed("no quote was played: the recordings hold none");
    }
    let names: Vec<&str> = only.iter().map(Symbol::as_str).collect();
    Failure::failed(format!(
        "no quote was played: the recordings hold none of {}; --only takes the symbol that the server shows, for example EURUSD.FXCM",
        names.join(", ")
    ))
}

fn open(args: &Args) -> Result<Replay, Failure> {
    let mut config = ReplayConfig::new(args.paths.clone());
    config.speed = args.speed;
    config.repeat = args.repeat;
    config.only.clone_from(&args.only);
    config.symbols = SymbolMap::new(args.mappings.clone());
    if args.from_start {
        config.csv_start = None;
    }
    let replay = Replay::open(config)?;
    check_mappings(&args.mappings, replay.sources().as_deref())?;
    Ok(replay)
}

/// A mapping of a source that there is not is a mistake, most often in its name. The sources of streams are not known before they play.
fn check_mappings(mappings: &[(String, Symbol)], sources: Option<&[&str]>) -> Outcome {
    let Some(sources) = sources else { return Ok(()) };
    let unknown = mappings.iter().find(|(source, _)| !sources.contains(&source.to_lowercase().as_str()));
    unknown.map_or(Ok(()), |(source, symbol)| {
        Err(Failure::usage(format!(
            "--map {source}={symbol}: no recording is of the source {source:?}; there are {}",
            sources.join(", ")
        )))
    })
}

fn report(args: &Args, progress: &Progress, problems: &[String], sink: &ServerSink, took: Duration) -> Outcome {
    let Progress { accepted, rejected, problems: problem_count, .. } = *progress;
    let reasons = sink.reasons();
    for problem in problems {
        output::say(problem);
    }
    for (code, reason) in &reasons {
        output::say(format_args!("rejected {} × {code}, for example {}", reason.count, reason.example));
    }
    let seconds = took.as_secs_f64();
    if args.json {
        let reasons: serde_json::Map<_, _> = reasons
            .into_iter()
            .map(|(code, reason)| (code, json!({"count": reason.count, "example": reason.example})))
            .collect();
        output::print_json(
            &json!({"accepted": accepted, "rejected": rejected, "reasons": reasons, "bad_input": problem_count,
            "problems": problems, "seconds": seconds}),
        )?;
    } else {
        output::print(format_args!(
            "accepted {accepted}, rejected {rejected}, unreadable {problem_count}, in {seconds:.1} s\n"
        ))?;
    }
    if rejected == 0 && problem_count == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// Shows how the replay goes: a bar on a terminal, nothing elsewhere.
struct Screen {
    bar: ProgressBar,
    problems: Mutex<Vec<String>>,
}

impl Screen {
    fn new(files: usize, repeat: bool) -> Self {
        // A length of none makes a spinner: what repeats has no end.
        let bar = ProgressBar::with_draw_target((!repeat).then_some(0), ProgressDrawTarget::stderr_with_hz(8));
        let style = match repeat {
            false => "{bar:30} {percent:>3} %  {msg}",
            true => "{spinner} {msg}",
        };
        bar.set_style(ProgressStyle::with_template(style).expect("the templates are valid, as every run shows"));
        bar.set_message(format!("{files} files"));
        Self { bar, problems: Mutex::default() }
    }

    /// Takes the bar from the screen and gives back what there is to complain about.
    fn finish(&self) -> Vec<String> {
        self.bar.finish_and_clear();
        self.problems.lock().map(|mut problems| std::mem::take(&mut *problems)).unwrap_or_default()
    }
}

impl Observer for Screen {
    fn progress(&self, progress: &Progress) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(progress.bytes_total);
        self.bar.set_position(progress.bytes_read);
        let seconds = progress.position.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let elapsed = self.bar.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
        let rate = progress.accepted as f64 / elapsed;
        let passes = if progress.passes > 0 { format!("  pass {}", progress.passes + 1) } else { String::new() };
        self.bar.set_message(format!(
            "{hours:02}:{minutes:02}:{seconds:02}  {} quotes  {rate:.0}/s{passes}",
            progress.accepted
        ));
    }

    fn problem(&self, problem: &Problem) {
        if let Ok(mut problems) = self.problems.lock()
            && problems.len() < TOLD_MAX
        {
            problems.push(problem.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_a_source_and_a_symbol() {
        let (source, symbol) = parse_mapping("oanda-eurusd=EUR/USD").unwrap();
        assert_eq!((source.as_str(), symbol.as_str()), ("oanda-eurusd", "EUR/USD"));
        for bad in ["oanda-eurusd", "a=b c"] {
            assert!(parse_mapping(bad).is_err(), "{bad}");
        }
    }
}
