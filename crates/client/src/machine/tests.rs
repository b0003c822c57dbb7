use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::wire::decode_text;

const SETTINGS: Settings = Settings {
    heartbeat: Duration::from_secs(30),
    timeout: Duration::from_secs(10),
    rejoin: Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(10) },
};

/// A machine and what a test wants to say to it.
struct Driver {
    machine: Machine,
    now: Instant,
}

impl Driver {
    fn online() -> Self {
        let mut driver = Self { machine: Machine::new(SETTINGS, fastrand::Rng::with_seed(1)), now: Instant::now() };
        driver.machine.connected(driver.now);
        driver
    }

    fn joined() -> Self {
        let mut driver = Self::online();
        driver.machine.join(CallId(1), "t", Params::none(), driver.now);
        assert_eq!(driver.sent(), [r#"["1","1","t","phx_join",{}]"#]);
        driver.receive(r#"["1","1","t","phx_reply",{"status":"ok","response":{"a":1}}]"#);
        assert_eq!(driver.actions(), [Action::Answer(CallId(1), Ok(text(r#"{"a":1}"#)))]);
        driver
    }

    fn receive(&mut self, message: &str) {
        self.machine.received(decode_text(message).unwrap(), self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    fn sent(&mut self) -> Vec<String> {
        self.actions()
            .into_iter()
            .filter_map(|action| if let Action::Send(text) = action { Some(text) } else { None })
            .collect()
    }

    /// Lets time pass until the machine wants to be called, and calls it.
    fn sleep(&mut self) -> Duration {
        let alarm = self.machine.alarm().unwrap();
        let slept = alarm.saturating_duration_since(self.now);
        self.now = alarm.max(self.now);
        self.machine.tick(self.now, true);
        slept
    }
}

fn text(json: &str) -> Payload {
    Payload::Json(Bytes::copy_from_slice(json.as_bytes()))
}

fn deliver(event: Event) -> Action {
    Action::Deliver("t".to_owned(), event)
}

#[test]
fn broadcasts_and_pushes_of_the_current_join_are_delivered() {
    let mut driver = Driver::joined();
    for (message, delivered) in [
        (r#"[null,null,"t","e",{}]"#, true),
        (r#"["1",null,"t","e",{}]"#, true),
        (r#"["0",null,"t","e",{}]"#, false),
        (r#"[null,null,"other","e",{}]"#, false),
    ] {
        driver.receive(message);
        let event = Event::Message { event: "e".to_owned(), payload: text("{}") };
        assert_eq!(driver.actions(), if delivered { vec![deliver(event)] } else { vec![] }, "{message}");
    }
}

#[test]
fn a_refused_first_join_leaves_nothing_behind() {
    let mut driver = Driver::online();
    driver.machine.join(CallId(1), "t", Params::none(), driver.now);
    driver.actions();
    driver.receive(r#"["1","1","t","phx_reply",{"status":"error","response":{"reason":"no"}}]"#);
    assert_eq!(driver.actions(), [Action::Answer(CallId(1), Err(CallError::Refused(text(r#"{"reason":"no"}"#))))]);
    driver.machine.push(CallId(2), "t", "e", &json!({}), driver.now);
    assert_eq!(driver.actions(), [Action::Answer(CallId(2), Err(CallError::NotJoined))]);
}

#[test]
fn pushes_are_answered_or_time_out() {
    let mut driver = Driver::joined();
    for call in 2..=4 {
        driver.machine.push(CallId(call), "t", "e", &json!({"x": call}), driver.now);
    }
    assert_eq!(driver.sent()[0], r#"["1","2","t","e",{"x":2}]"#);
    driver.receive(r#"["1","2","t","phx_reply",{"status":"ok","response":{}}]"#);
    driver.receive(r#"["1","3","t","phx_reply",{"status":"error","response":{}}]"#);
    assert_eq!(
        driver.actions(),
        [Action::Answer(CallId(2), Ok(text("{}"))), Action::Answer(CallId(3), Err(CallError::Refused(text("{}"))))]
    );
    assert_eq!(driver.sleep(), SETTINGS.timeout);
    assert_eq!(driver.actions(), [Action::Answer(CallId(4), Err(CallError::TimedOut))]);
}

#[test]
fn an_unanswered_first_join_times_out_and_is_taken_back() {
    let mut driver = Driver::online();
    driver.machine.join(CallId(1), "t", Params::none(), driver.now);
    driver.actions();
    driver.sleep();
    assert_eq!(
        driver.actions(),
        [
            Action::Send(r#"["1","2","t","phx_leave",{}]"#.to_owned()),
            Action::Answer(CallId(1), Err(CallError::TimedOut)),
        ]
    );
    driver.receive(r#"["1","1","t","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(driver.actions(), [], "a late answer is not heard");
}

/// The caller waits from the day it asked, the join's own reply only since there was a connection.
#[test]
fn a_first_join_that_went_out_late_is_taken_back_when_its_caller_has_given_up() {
    let now = Instant::now();
    let mut driver = Driver { machine: Machine::new(SETTINGS, fastrand::Rng::with_seed(1)), now };
    driver.machine.join(CallId(1), "t", Params::none(), now);
    driver.now = now + SETTINGS.timeout / 2;
    driver.machine.connected(driver.now);
    assert_eq!(driver.sent(), [r#"["1","1","t","phx_join",{}]"#]);
    driver.sleep();
    assert_eq!(
        driver.actions(),
        [
            Action::Send(r#"["1","2","t","phx_leave",{}]"#.to_owned()),
            Action::Answer(CallId(1), Err(CallError::TimedOut)),
        ]
    );
    driver.receive(r#"["1","1","t","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(driver.actions(), []);
}

#[test]
fn a_lost_connection_is_told_and_joined_again_with_new_params() {
    let mut driver = Driver::online();
    let joins = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let params = {
        let joins = joins.clone();
        Params::from_fn(move || json!({"n": joins.fetch_add(1, std::sync::atomic::Ordering::Relaxed)}))
    };
    driver.machine.join(CallId(1), "t", params, driver.now);
    driver.receive(r#"["1","1","t","phx_reply",{"status":"ok","response":{}}]"#);
    driver.machine.push(CallId(2), "t", "e", &json!({}), driver.now);
    driver.actions();
    let why = Disconnect::Closed { code: 1012, reason: "shutdown".to_owned() };
    driver.machine.disconnected(&why);
    assert_eq!(
        driver.actions(),
        [
            Action::Answer(CallId(2), Err(CallError::Disconnected(why.clone()))),
            deliver(Event::Interrupted(Interruption::Disconnected(why))),
        ]
    );
    driver.machine.connected(driver.now);
    assert_eq!(driver.sent(), [r#"["3","3","t","phx_join",{"n":1}]"#]);
    driver.receive(r#"["1",null,"t","phx_close",{}]"#);
    driver.receive(r#"["3","3","t","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(driver.actions(), [deliver(Event::Rejoined(text("{}")))]);
}

#[test]
fn a_crashed_channel_is_joined_again_after_a_growing_wait() {
    let mut driver = Driver::joined();
    driver.receive(r#"["1","1","t","phx_error",{"reason":"channel_crash"}]"#);
    assert_eq!(driver.actions(), [deliver(Event::Interrupted(Interruption::Crashed))]);
    let mut waited = driver.sleep();
    for _ in 0..6 {
        let join = driver.sent().pop().unwrap();
        let join_ref: String = join.chars().skip(2).take_while(char::is_ascii_digit).collect();
        driver.receive(&format!(r#"["{join_ref}","{join_ref}","t","phx_reply",{{"status":"error","response":{{}}}}]"#));
        assert_eq!(driver.actions(), [deliver(Event::Interrupted(Interruption::Refused(text("{}"))))]);
        waited = waited.max(driver.sleep());
    }
    assert!(waited > Duration::from_millis(500) && waited <= Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_closed_channel_is_final() {
    let mut driver = Driver::joined();
    driver.receive(r#"["1","1","t","phx_close",{}]"#);
    assert_eq!(driver.actions(), [deliver(Event::Ended)]);
    driver.machine.disconnected(&Disconnect::Silent);
    driver.machine.connected(driver.now);
    assert_eq!(driver.actions(), []);
}

#[test]
fn heartbeats_go_out_and_their_absence_drops_the_connection() {
    let mut driver = Driver::online();
    assert_eq!(driver.sleep(), SETTINGS.heartbeat);
    assert_eq!(driver.actions(), [Action::Send(Outgoing::heartbeat(1))]);
    driver.receive(r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    driver.sleep();
    assert_eq!(driver.actions(), [Action::Send(Outgoing::heartbeat(2))]);
    driver.now += SETTINGS.heartbeat;
    driver.machine.tick(driver.now, false);
    assert_eq!(driver.actions(), [Action::Send(Outgoing::heartbeat(3))], "a driver that does not read cannot tell");
    driver.sleep();
    assert_eq!(driver.actions(), [Action::Drop(Disconnect::Silent)]);
}

#[test]
fn joins_while_offline_go_out_with_the_connection() {
    let now = Instant::now();
    let mut driver = Driver { machine: Machine::new(SETTINGS, fastrand::Rng::with_seed(1)), now };
    driver.machine.join(CallId(1), "t", Params::none(), now);
    driver.machine.join(CallId(2), "t", Params::none(), now);
    assert_eq!(driver.actions(), [Action::Answer(CallId(2), Err(CallError::AlreadyJoined))]);
    driver.machine.connected(now);
    assert_eq!(driver.sent().len(), 1);
    driver.machine.ended(&Disconnect::Local);
    assert_eq!(driver.actions(), [Action::Answer(CallId(1), Err(CallError::Disconnected(Disconnect::Local)))]);
}
