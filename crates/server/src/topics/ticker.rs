//! The `ticker` kind: a symbol's newest value, and every newer one.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tickwire_channels::{
    Channel, Context, Flow, JoinRequest, Joined, Joining, Kind, Refusal, Status, channel::reason_payload,
};
use tickwire_market::{Answer, JoinRefusal, JoinSnapshot, Market, Moment, Since, Symbol, TICKER_PREFIX};
use tickwire_pubsub::Payload;

use crate::{
    access::Gate,
    config::{parse_duration, show_duration},
};

/// The longest pause between two updates that a client may ask for: a value older than this is no price.
pub(crate) const MAX_RATE_LONGEST: Duration = Duration::from_secs(60);

/// The kind of channel.
#[derive(Debug)]
pub(crate) struct TickerKind {
    /// Where the values are.
    pub(crate) market: Market,
    /// Who may join.
    pub(crate) gate: Gate,
}

/// What a client may say when it joins. Unknown parameters are the application's own business: phoenix.js sends what it is given.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object of parameters")]
struct Params {
    since: Option<Since>,
    max_rate: Option<String>,
}

impl Kind for TickerKind {
    fn join(&self, request: JoinRequest) -> Joining {
        if !self.gate.may_join(&request.socket, &request.topic) {
            return Refusal::reason("unauthorized").into();
        }
        let Some(symbol) = request.topic.strip_prefix(TICKER_PREFIX).and_then(|text| Symbol::new(text).ok()) else {
            return Refusal::reason("unknown symbol").into();
        };
        let (since, min_interval) = match read_params(request.params.bytes()) {
            Ok(params) => params,
            Err(message) => return refuse_params(&message).into(),
        };
        let wish = tickwire_market::JoinRequest { symbol, since, merge_missed: min_interval.is_some() };
        match self.market.join(wish) {
            Answer::Ready(answer) => decide(answer, min_interval).into(),
            Answer::Waiting(answer) => Joining::later(async move { decide(answer.await, min_interval) }),
        }
    }
}

/// What the market's answer means to the client.
fn decide(answer: Result<JoinSnapshot, JoinRefusal>, min_interval: Option<Duration>) -> Result<Joined, Refusal> {
    let snapshot = answer.map_err(|JoinRefusal::UnknownSymbol| Refusal::reason("unknown symbol"))?;
    let mut joined = Joined::new(TickerChannel).reply(Payload::Json(snapshot.to_json()));
    if let Some(floor) = snapshot.floor {
        joined = joined.floor(floor);
    }
    if let Some(interval) = min_interval {
        joined = joined.min_interval(interval);
    }
    Ok(joined)
}

/// Reads `since` and `max_rate`; an interval of zero is none.
fn read_params(params: &Bytes) -> Result<(Option<Since>, Option<Duration>), String> {
    // A client that sends no object, such as `null` or `[]`, asks for nothing in particular.
    if !params.trim_ascii_start().starts_with(b"{") {
        return Ok((None, None));
    }
    let params: Params = serde_json::from_slice(params).map_err(|error| {
        // What is of the wrong type is repeated by the error, however long it is.
        let error: String = error.to_string().chars().take(200).collect();
        format!(
            "{error}; expected for example {{\"since\": {{\"epoch\": \"…\", \"seq\": 17}}, \"max_rate\": \"250ms\"}}"
        )
    })?;
    Ok((params.since, params.max_rate.as_deref().map(read_max_rate).transpose()?.flatten()))
}

/// Reads the shortest pause between two updates; zero is none.
pub(crate) fn read_max_rate(text: &str) -> Result<Option<Duration>, String> {
    let interval = parse_duration(text).filter(|interval| *interval <= MAX_RATE_LONGEST).ok_or_else(|| {
        let seen: String = text.chars().take(40).collect();
        format!("max_rate: {seen:?} is not a duration up to {}, for example \"250ms\"", show_duration(MAX_RATE_LONGEST))
    })?;
    Ok((!interval.is_zero()).then_some(interval))
}

fn refuse_params(message: &str) -> Refusal {
    Refusal(Payload::Json(json!({"reason": "invalid_params", "message": message}).to_string().into()))
}

struct TickerChannel;

impl Channel for TickerChannel {
    fn handle(&mut self, event: &str, _payload: &Payload, context: &mut Context<'_>) -> Flow {
        if event == "ping" {
            let timestamp = Moment::now().unix_us / 1000;
            context.push("pong", Payload::Json(format!("{{\"timestamp\":{timestamp}}}").into()));
        } else {
            context.reply(Status::Error, reason_payload("unhandled event"));
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &str) -> Result<(Option<Since>, Option<Duration>), String> {
        read_params(&Bytes::copy_from_slice(params.as_bytes()))
    }

    #[test]
    fn parameters_are_optional_and_unknown_ones_are_left_alone() {
        for text in
            ["{}", "null", "[]", "3", r#"{"token":"x"}"#, r#"{"since":null,"max_rate":null}"#, r#"{"max_rate":"0s"}"#]
        {
            assert_eq!(read(text), Ok((None, None)), "{text}");
        }
        let (since, rate) = read(r#"{"since":{"epoch":"abc","seq":7},"max_rate":"250ms"}"#).unwrap();
        assert_eq!((since.unwrap(), rate), (Since::new("abc", 7).unwrap(), Some(Duration::from_millis(250))));
    }

    #[test]
    fn a_wrong_parameter_says_what_is_right() {
        for (text, named) in [
            (r#"{"max_rate":"fast"}"#, "max_rate: \"fast\" is not a duration"),
            (r#"{"max_rate":"2m"}"#, "up to 1m"),
            (r#"{"max_rate":250}"#, "expected a string"),
            (r#"{"since":7}"#, "integer `7`, expected an object with epoch and seq"),
            (r#"{"since":{"epoch":"abc"}}"#, "missing field `seq`"),
            (r#"{"since":{"epoch":"abc","seq":-1}}"#, "since"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named) && error.contains("250ms"), "{text}: {error}");
        }
        let long = "x".repeat(100_000);
        for text in [format!(r#"{{"since":"{long}"}}"#), format!(r#"{{"max_rate":"{long}"}}"#)] {
            assert!(read(&text).unwrap_err().len() < 400);
        }
        let error = read(&format!(r#"{{"since":{{"epoch":"{long}","seq":1}}}}"#)).unwrap_err();
        assert!(error.starts_with("since.epoch has 100000 bytes, expected the epoch of an update"), "{error}");
    }
}
