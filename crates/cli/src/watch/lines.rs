//! What arrives, as lines of JSON for scripts; what happens to the connection, for people, on standard error.

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tickwire_client::{Change, Event, Interruption, Payload};

use super::{Seen, Watched, describe};
use crate::{
    failure::Outcome,
    output::{self, Data},
};

/// Lines that are written before they are let go, as long as there are more at hand.
const BATCH: usize = 1000;

pub(super) async fn show(watched: Watched) -> Outcome {
    let Watched { topics, mut feed, mut link, limits } = watched;
    let mut time_is_up = std::pin::pin!(limits.time_is_up());
    let mut shown = 0;
    while !limits.reached(shown) {
        let mut next = tokio::select! {
            seen = feed.next() => seen,
            () = &mut time_is_up => return Ok(()),
            Ok(()) = link.changed() => {
                output::say(describe(&link.borrow_and_update()));
                continue;
            }
        };
        if next.is_none() {
            return Ok(());
        }
        let mut data = Data::stdout();
        for _ in 0..BATCH {
            let Some((index, seen)) = next.take() else { break };
            let topic = topics.get(index).map_or("", String::as_str);
            if let Some(line) = line(topic, seen) {
                data.line(line)?;
                shown += 1;
            }
            if limits.reached(shown) {
                break;
            }
            next = feed.next().now_or_never().flatten();
        }
        data.flush()?;
    }
    Ok(())
}

/// The line for what arrived, if it is data.
fn line(topic: &str, seen: Seen) -> Option<String> {
    let (event, payload) = match seen {
        Seen::Ticker(change) => ticker_line(topic, change)?,
        Seen::Joined(payload) => ("joined".to_owned(), text(&payload)),
        Seen::Plain(Event::Message { event, payload }) => (event, text(&payload)),
        Seen::Plain(Event::Rejoined(payload)) => ("joined".to_owned(), text(&payload)),
        Seen::Plain(Event::Interrupted(why)) => {
            tell_interruption(topic, &why);
            return None;
        }
        Seen::Plain(Event::Ended) => {
            output::say(format_args!("{topic}: closed"));
            return None;
        }
    };
    // The payload goes out as it came in: no digit is touched.
    Some(format!(r#"{{"topic":{},"event":{},"payload":{payload}}}"#, json!(topic), json!(event)))
}

fn ticker_line(topic: &str, change: Change) -> Option<(String, String)> {
    let raw = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
    Some(match change {
        Change::Snapshot(snapshot) => {
            if snapshot.quote.is_none() {
                output::say(format_args!("{topic}: nobody has quoted it yet; what comes is shown"));
            }
            ("snapshot".to_owned(), raw(&snapshot.json))
        }
        Change::Update { update, fault } => {
            if let Some(fault) = fault {
                output::say_warning(format_args!("{topic}: seq {}: {fault:?}", update.mark.seq));
            }
            ("update".to_owned(), raw(&update.json))
        }
        Change::Status(feed) => ("status".to_owned(), json!(feed).to_string()),
        Change::Other { event, payload } => (event, text(&payload)),
        Change::Resumed { missed, .. } => {
            output::say(format_args!("{topic}: resumed, {missed} missed updates follow"));
            return None;
        }
        Change::Interrupted(why) => {
            tell_interruption(topic, &why);
            return None;
        }
        Change::Malformed(malformed) => {
            output::say_warning(format_args!("{topic}: {malformed}"));
            return None;
        }
    })
}

/// A lost connection is told once, not for every topic.
fn tell_interruption(topic: &str, why: &Interruption) {
    match why {
        Interruption::Disconnected(_) => {}
        Interruption::Crashed => output::say(format_args!("{topic}: crashed on the server; joining again")),
        Interruption::TimedOut => output::say(format_args!("{topic}: no answer to a join; trying again")),
        Interruption::Refused(response) => {
            output::say(format_args!("{topic}: refused: {}; trying again", text(response)));
        }
    }
}

/// A payload as JSON. One of raw bytes has no JSON form, so only its length is told.
fn text(payload: &Payload) -> String {
    match payload {
        Payload::Json(text) => String::from_utf8_lossy(text).into_owned(),
        Payload::Binary(bytes) => json!({"binary_bytes": bytes.len()}).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tickwire_client::Follower;

    use super::*;

    fn payload(json: &'static str) -> Payload {
        Payload::Json(bytes::Bytes::from_static(json.as_bytes()))
    }

    #[test]
    fn payloads_go_out_as_they_came_in() {
        let mut follower = Follower::default();
        let reply = payload(r#"{"quote":null,"epoch":"a","seq":0,"new_key":1}"#);
        let mut lines =
            follower.apply(Event::Rejoined(reply)).into_iter().filter_map(|change| line("t", Seen::Ticker(change)));
        let expected = r#"{"topic":"t","event":"snapshot","payload":{"quote":null,"epoch":"a","seq":0,"new_key":1}}"#;
        assert_eq!(lines.next().as_deref(), Some(expected));
        let event = Event::Message { event: "say".to_owned(), payload: payload("1.10") };
        assert_eq!(line("room:a", Seen::Plain(event)).unwrap(), r#"{"topic":"room:a","event":"say","payload":1.10}"#);
        assert_eq!(line("t", Seen::Plain(Event::Ended)), None);
    }
}
