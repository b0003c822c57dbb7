//! Where the quotes to publish come from, cut into requests.
//!
//! They are sent as they are written: what is a good quote, the server decides, and it keeps every digit.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::{
    failure::Failure,
    remote::{ContentType, Refused},
};

/// Quotes of one request.
const BATCH_ITEMS: usize = 500;
/// Bytes of one request, well below what a server accepts by default.
const BATCH_BYTES: usize = 1 << 20;
/// Lines that may wait while a request is under way; the reader then waits.
const LINES_MAX: usize = 4 * BATCH_ITEMS;
/// A line beyond this is no quote, and is not read into memory whole.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// A JSON file is read as a whole.
const JSON_BYTES_MAX: u64 = 256 << 20;

/// How quotes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One object, or an array of them
    Json,
    /// One object a line
    Ndjson,
    /// A header line, then one quote a line
    Csv,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Ok(Self::Json),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            Some("csv") => Ok(Self::Csv),
            _ => Err(Failure::usage(format!(
                "--file {}: its name does not tell its format; expected .json, .ndjson, .jsonl or .csv, or give --format",
                path.display()
            ))),
        }
    }
}

/// One quote as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Where it stands, for messages.
    pub(super) place: String,
    pub(super) text: String,
}

/// The quotes of one request.
#[derive(Debug)]
pub(super) struct Batch {
    form: Form,
    pub(super) items: Vec<Item>,
}

/// How they are written in a request.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Json,
    Ndjson,
    /// With the header line that goes before the quotes of every request.
    Csv(String),
}

impl Batch {
    pub(super) fn content_type(&self) -> ContentType {
        match self.form {
            Form::Json => ContentType::Json,
            Form::Ndjson => ContentType::Ndjson,
            Form::Csv(_) => ContentType::Csv,
        }
    }

    pub(super) fn body(&self) -> Bytes {
        let texts: Vec<&str> = self.items.iter().map(|item| item.text.as_str()).collect();
        Bytes::from(match &self.form {
            Form::Json => format!("[{}]", texts.join(",")),
            Form::Ndjson => texts.join("\n"),
            Form::Csv(header) => format!("{header}\n{}\n", texts.join("\n")),
        })
    }

    /// Drops all but the quotes that are to be sent again, in order.
    pub(super) fn keep(&mut self, again: &[Refused]) {
        let mut index = 0;
        self.items.retain(|_| {
            index += 1;
            again.iter().any(|refused| refused.index + 1 == index)
        });
    }
}

/// A supply of batches.
pub(super) enum Source {
    /// All are there.
    Ready { form: Form, items: VecDeque<Item> },
    /// Lines that arrive.
    Lines(Lines),
}

/// Lines that a thread reads.
pub(super) struct Lines {
    receiver: mpsc::Receiver<io::Result<Line>>,
    csv: bool,
    header: Option<String>,
}

struct Line {
    number: usize,
    text: String,
}

impl Source {
    /// A single quote.
    pub(super) fn one(item: Item) -> Self {
        Self::Ready { form: Form::Json, items: VecDeque::from([item]) }
    }

    /// The quotes of a file.
    pub(super) fn file(path: &Path, format: Option<Format>) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::usage(format!("--file: cannot read {}: {error}", path.display()));
        // A missing file has no format worth complaining about.
        let file = fs::File::open(path).map_err(unreadable)?;
        let format = format.map_or_else(|| Format::of(path), Ok)?;
        if format != Format::Json {
            return Ok(Self::Lines(Lines::read(BufReader::new(file), format)));
        }
        let mut text = String::new();
        file.take(JSON_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        let items = json_items(&text).map_err(|error| {
            Failure::failed(format!("{}: {error}; expected one JSON quote or an array of them", path.display()))
        })?;
        Ok(Self::Ready { form: Form::Json, items })
    }

    /// The quotes of standard input, NDJSON unless told otherwise.
    pub(super) fn stdin(format: Option<Format>) -> Self {
        Self::Lines(Lines::read(BufReader::new(io::stdin()), format.unwrap_or(Format::Ndjson)))
    }

    /// The next request's quotes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Failure> {
        match self {
            Self::Lines(lines) => lines.next().await,
            Self::Ready { form, items } => {
                let mut bytes = 0;
                let fits = |item: &&Item| {
                    bytes += item.text.len();
                    bytes <= BATCH_BYTES
                };
                let count = items.iter().take(BATCH_ITEMS).take_while(fits).count();
                let count = count.max(1).min(items.len());
                let batch = Batch { form: form.clone(), items: items.drain(..count).collect() };
                Ok((!batch.items.is_empty()).then_some(batch))
            }
        }
    }
}

impl Lines {
    /// Starts a thread that reads: a blocked read of a terminal or a pipe cannot be cancelled, and ends with the process.
    fn read(reader: impl io::BufRead + Send + 'static, format: Format) -> Self {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || read_lines(reader, &sender));
        Self { receiver, csv: format == Format::Csv, header: None }
    }

    async fn next(&mut self) -> Result<Option<Batch>, Failure> {
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.is_empty() || (items.len() < BATCH_ITEMS && bytes < BATCH_BYTES) {
            // Once there is something to send, only what has already arrived is waited for.
            let line = match items.is_empty() {
                true => self.receiver.recv().await,
                false => self.receiver.try_recv().ok(),
            };
            let Some(line) = line else { break };
            let Line { number, text } =
                line.map_err(|error| Failure::Failed(anyhow::Error::from(error).context("read quotes")))?;
            if self.csv && self.header.is_none() {
                self.header = Some(text);
                continue;
            }
            bytes += text.len() + 1;
            items.push(Item { place: format!("line {number}"), text });
        }
        let form = self.header.clone().map_or(Form::Ndjson, Form::Csv);
        Ok((!items.is_empty()).then_some(Batch { form, items }))
    }
}

/// Hands over the lines that are not blank.
fn read_lines(mut reader: impl io::BufRead, sender: &mpsc::Sender<io::Result<Line>>) {
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let too_long = line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n");
        let message = match read {
            Ok(0) => return,
            Ok(_) if too_long => {
                Err(io::Error::other(format!("line {number} has more than {LINE_BYTES_MAX} bytes, which is no quote")))
            }
            Ok(_) => {
                let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
                if text.is_empty() {
                    continue;
                }
                Ok(Line { number, text })
            }
            Err(error) => Err(error),
        };
        let failed = message.is_err();
        if sender.blocking_send(message).is_err() || failed {
            return;
        }
    }
}

fn json_items(text: &str) -> Result<VecDeque<Item>, serde_json::Error> {
    let array = text.trim_start().starts_with('[');
    let values: Vec<&RawValue> = if array { serde_json::from_str(text)? } else { vec![serde_json::from_str(text)?] };
    let item = |(index, value): (usize, &RawValue)| Item {
        place: format!("quote {}", index + 1),
        text: value.get().to_owned(),
    };
    Ok(values.into_iter().enumerate().map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batches(mut source: Source) -> Vec<Batch> {
        let mut batches = Vec::new();
        while let Some(batch) = source.next().await.unwrap() {
            batches.push(batch);
        }
        batches
    }

    fn lines(text: &'static str, format: Format) -> Source {
        Source::Lines(Lines::read(text.as_bytes(), format))
    }

    #[tokio::test]
    async fn lines_keep_their_numbers_and_digits() {
        let batches = batches(lines("{\"bid\":1.10}\n\n  {\"bid\":1.20}  \n", Format::Ndjson)).await;
        let items: Vec<_> = batches.iter().flat_map(|batch| &batch.items).collect();
        assert_eq!((items[0].place.as_str(), items[1].place.as_str()), ("line 1", "line 3"));
        assert_eq!(items[1].text, "{\"bid\":1.20}");
    }

    #[tokio::test]
    async fn every_csv_request_begins_with_the_header() {
        let batches = batches(lines("symbol,bid\nA,1\nB,2\n", Format::Csv)).await;
        let places: Vec<_> =
            batches.iter().flat_map(|batch| batch.items.iter().map(|item| item.place.clone())).collect();
        assert_eq!(places, ["line 2", "line 3"]);
        assert!(batches.iter().all(|batch| batch.body().starts_with(b"symbol,bid\n")));
        assert!(batches.iter().all(|batch| batch.content_type() == ContentType::Csv));
    }

    #[tokio::test]
    async fn a_json_array_is_cut_into_requests() {
        let text = format!("[{}]", vec!["{\"bid\": 1.0}"; BATCH_ITEMS + 1].join(", "));
        let source = Source::Ready { form: Form::Json, items: json_items(&text).unwrap() };
        let batches = batches(source).await;
        assert_eq!(batches.iter().map(|batch| batch.items.len()).collect::<Vec<_>>(), [BATCH_ITEMS, 1]);
        assert_eq!(batches[1].body(), "[{\"bid\": 1.0}]");
        assert!(json_items("[{]").is_err());
    }

    #[tokio::test]
    async fn a_line_without_end_is_an_error() {
        let endless = BufReader::new(io::repeat(b'x'));
        let mut source = Source::Lines(Lines::read(endless, Format::Ndjson));
        let error = source.next().await.unwrap_err().message().unwrap();
        assert!(error.contains("line 1 has more than"), "{error}");
    }

    #[test]
    fn only_what_may_be_sent_again_is_kept() {
        let item = |text: &str| Item { place: text.to_owned(), text: text.to_owned() };
        let mut batch = Batch { form: Form::Ndjson, items: vec![item("a"), item("b"), item("c")] };
        let again = |index| Refused { index, error: String::new(), code: String::new(), retryable: true };
        batch.keep(&[again(0), again(2)]);
        assert_eq!(batch.body(), "a\nc");
    }
}
