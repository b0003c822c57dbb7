//! Checks what arrives for one symbol against what was promised.

use serde::Serialize;

use super::{Change, Feed, Malformed, Mark, Snapshot, Update};
use crate::{Event, Payload};

/// What is wrong with an update's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `n` does not explain the gap before it: updates were lost.
    Lost {
        /// How many.
        updates: u64,
    },
    /// It is not newer than what arrived before.
    Backwards {
        /// The newest `seq` before it.
        after: u64,
    },
    /// It claims to stand for more updates than there were.
    Overcounted {
        /// How many too many.
        by: u64,
    },
    /// It is of another epoch, and no snapshot has announced that.
    UnknownEpoch,
}

/// What has arrived for a symbol, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Updates that arrived, `missed` included.
    pub updates: u64,
    /// Updates that were merged into others: the sum of all `n`, less `updates`.
    pub conflated: u64,
    /// Updates that are lost: no `n` explains them.
    pub lost: u64,
    /// Updates out of order, repeated, overcounted or of an epoch that nothing announced.
    pub disordered: u64,
    /// Snapshots, the first join's reply included.
    pub snapshots: u64,
    /// Joins that went on without a hole.
    pub resumed: u64,
}

/// The state of one followed symbol: pure, for any transport.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    mark: Option<Mark>,
    tally: Tally,
}

impl Follower {
    /// A follower that has seen everything up to `mark`.
    #[must_use]
    pub fn new(mark: Option<Mark>) -> Self {
        Self { mark, tally: Tally::default() }
    }

    /// How far it has come; what a join should resume from.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// What has arrived so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes an event of the topic.
    #[must_use]
    pub fn apply(&mut self, event: Event) -> Vec<Change> {
        match event {
            Event::Rejoined(reply) => match Snapshot::parse(reply.bytes()) {
                Ok(reply) => self.joined(reply),
                Err(problem) => vec![Change::Malformed(malformed("phx_reply", &problem))],
            },
            Event::Message { event, payload } => {
                vec![self.message(event, payload).unwrap_or_else(Change::Malformed)]
            }
            Event::Interrupted(why) => vec![Change::Interrupted(why)],
            Event::Ended => Vec::new(),
        }
    }

    fn joined(&mut self, reply: Snapshot) -> Vec<Change> {
        let resumes = reply.recovered && self.mark.as_ref().is_some_and(|mark| mark.epoch == reply.mark.epoch);
        if !resumes {
            return vec![self.restart(reply)];
        }
        self.tally.resumed += 1;
        let missed: Vec<_> = reply.missed.into_iter().filter_map(|update| self.missed(update)).collect();
        let mut changes = vec![Change::Resumed { missed: missed.len(), status: reply.status }];
        changes.extend(missed);
        // What the reply says is the newest must be where `missed` has led.
        let led_to = self.mark.as_ref().map_or(0, |mark| mark.seq);
        self.tally.lost += reply.mark.seq.saturating_sub(led_to);
        self.mark = Some(Mark { seq: led_to.max(reply.mark.seq), ..reply.mark });
        changes
    }

    /// Takes an update that the server thinks was missed. The join asked from where the consumer stood then; what waited for it at that
    /// time, it has had since.
    fn missed(&mut self, mut update: Update) -> Option<Change> {
        if let Some(mark) = self.mark.as_ref().filter(|mark| mark.epoch == update.mark.epoch) {
            let news = update.mark.seq.checked_sub(mark.seq).filter(|news| *news > 0)?;
            update.n = update.n.min(news);
        }
        Some(self.update(update))
    }

    fn restart(&mut self, snapshot: Snapshot) -> Change {
        self.tally.snapshots += 1;
        self.mark = Some(snapshot.mark.clone());
        Change::Snapshot(snapshot)
    }

    fn message(&mut self, event: String, payload: Payload) -> Result<Change, Malformed> {
        let json = payload.bytes();
        let change = match event.as_str() {
            "update" => Update::parse(json).map(|update| self.update(update)),
            "snapshot" => Snapshot::parse(json).map(|snapshot| self.restart(snapshot)),
            "status" => serde_json::from_slice::<Feed>(json).map(Change::Status),
            _ => return Ok(Change::Other { event, payload }),
        };
        change.map_err(|problem| malformed(&event, &problem))
    }

    fn update(&mut self, update: Update) -> Change {
        let fault = self.check(&update);
        self.tally.updates += 1;
        self.tally.conflated += update.n.saturating_sub(1);
        match fault {
            None => {}
            Some(Fault::Lost { updates }) => self.tally.lost += updates,
            Some(_) => self.tally.disordered += 1,
        }
        if !matches!(fault, Some(Fault::Backwards { .. })) {
            match &mut self.mark {
                Some(mark) if mark.epoch == update.mark.epoch => mark.seq = update.mark.seq,
                mark => *mark = Some(update.mark.clone()),
            }
        }
        Change::Update { update, fault }
    }

    fn check(&self, update: &Update) -> Option<Fault> {
        let mark = self.mark.as_ref().filter(|mark| mark.epoch == update.mark.epoch);
        let Some(Mark { seq: after, .. }) = mark else { return Some(Fault::UnknownEpoch) };
        let Some(step @ 1..) = update.mark.seq.checked_sub(*after) else {
            return Some(Fault::Backwards { after: *after });
        };
        match step.cmp(&update.n) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Fault::Lost { updates: step - update.n }),
            std::cmp::Ordering::Less => Some(Fault::Overcounted { by: update.n - step }),
        }
    }
}

fn malformed(event: &str, problem: &serde_json::Error) -> Malformed {
    Malformed { event: event.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disconnect, FeedState, Interruption};

    fn payload(json: &str) -> Payload {
        Payload::Json(bytes::Bytes::copy_from_slice(json.as_bytes()))
    }

    fn joined(json: &str) -> (Follower, Vec<Change>) {
        let mut follower = Follower::default();
        let changes = follower.apply(Event::Rejoined(payload(json)));
        (follower, changes)
    }

    /// Feeds an update and tells what was wrong with it.
    fn update(follower: &mut Follower, json: &str) -> Option<Fault> {
        let event = Event::Message { event: "update".to_owned(), payload: payload(json) };
        match follower.apply(event).pop() {
            Some(Change::Update { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    const REPLY: &str =
        r#"{"quote":{"symbol":"EURUSD","bid":"1.10"},"epoch":"a","seq":5,"recovered":false,"missed":[],"status":"ok"}"#;

    #[test]
    fn the_reply_is_where_it_starts() {
        let (mut follower, changes) = joined(REPLY);
        let [Change::Snapshot(snapshot)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(snapshot.quote.as_ref().unwrap().bid.as_deref(), Some("1.10"));
        assert_eq!(snapshot.status, Some(Feed { state: FeedState::Ok, since_us: None }));
        assert_eq!(update(&mut follower, r#"{"symbol":"EURUSD","ask":"1.2","ts":7,"epoch":"a","seq":6}"#), None);
        assert_eq!(follower.mark().unwrap().seq, 6);
    }

    #[test]
    fn every_gap_is_explained_by_n_or_reported() {
        let (mut follower, _) = joined(REPLY);
        for (json, fault) in [
            (r#"{"epoch":"a","seq":6}"#, None),
            (r#"{"epoch":"a","seq":9,"n":3}"#, None),
            (r#"{"epoch":"a","seq":12,"n":2}"#, Some(Fault::Lost { updates: 1 })),
            (r#"{"epoch":"a","seq":12}"#, Some(Fault::Backwards { after: 12 })),
            (r#"{"epoch":"a","seq":13,"n":4}"#, Some(Fault::Overcounted { by: 3 })),
            (r#"{"epoch":"b","seq":1}"#, Some(Fault::UnknownEpoch)),
            (r#"{"epoch":"b","seq":2}"#, None),
        ] {
            assert_eq!(update(&mut follower, json), fault, "{json}");
        }
        let tally = Tally { updates: 7, conflated: 6, lost: 1, disordered: 3, snapshots: 1, resumed: 0 };
        assert_eq!(follower.tally(), &tally);
    }

    #[test]
    fn a_resume_replays_what_was_missed() {
        let (mut follower, _) = joined(REPLY);
        let lost = Interruption::Disconnected(Disconnect::Silent);
        assert_eq!(follower.apply(Event::Interrupted(lost.clone())), [Change::Interrupted(lost)]);
        let reply = r#"{"quote":{"bid":"1.12"},"epoch":"a","seq":7,"recovered":true,
            "missed":[{"epoch":"a","seq":6},{"epoch":"a","seq":7}],"status":{"state":"stale","since_us":3}}"#;
        let changes = follower.apply(Event::Rejoined(payload(reply)));
        assert_eq!(changes.len(), 3);
        assert!(matches!(changes[0], Change::Resumed { missed: 2, status: Some(Feed { since_us: Some(3), .. }) }));
        assert_eq!((follower.tally().lost, follower.tally().resumed), (0, 1));
        assert_eq!(update(&mut follower, r#"{"epoch":"a","seq":8}"#), None);
    }

    /// The connection ended while updates waited for a slow consumer: the join asked from before them.
    #[test]
    fn a_resume_repeats_nothing_that_arrived_before_the_interruption() {
        for (missed, left) in [
            (r#"{"epoch":"a","seq":6},{"epoch":"a","seq":7},{"epoch":"a","seq":8}"#, 1),
            (r#"{"epoch":"a","seq":8,"n":3}"#, 1),
            (r#"{"epoch":"a","seq":7,"n":2}"#, 0),
        ] {
            let (mut follower, _) = joined(REPLY);
            for json in [r#"{"epoch":"a","seq":6}"#, r#"{"epoch":"a","seq":7}"#] {
                assert_eq!(update(&mut follower, json), None);
            }
            let seq = 7 + left as u64;
            let reply = format!(r#"{{"quote":null,"epoch":"a","seq":{seq},"recovered":true,"missed":[{missed}]}}"#);
            let changes = follower.apply(Event::Rejoined(payload(&reply)));
            assert!(matches!(changes[0], Change::Resumed { missed, .. } if missed == left), "{changes:?}");
            assert_eq!(changes.len() - 1, left);
            let Tally { updates, conflated, lost, disordered, .. } = *follower.tally();
            assert_eq!((updates, conflated, lost, disordered), (seq - 5, 0, 0, 0));
        }
    }

    #[test]
    fn a_resume_that_leaves_a_hole_is_counted() {
        let (mut follower, _) = joined(REPLY);
        let reply = r#"{"quote":null,"epoch":"a","seq":9,"recovered":true,"missed":[{"epoch":"a","seq":6}]}"#;
        let _ = follower.apply(Event::Rejoined(payload(reply)));
        assert_eq!(follower.tally().lost, 3);
        assert_eq!(follower.mark().unwrap().seq, 9);
    }

    #[test]
    fn what_is_not_understood_is_told_and_changes_nothing() {
        let (mut follower, _) = joined(REPLY);
        let changes = follower.apply(Event::Message { event: "update".to_owned(), payload: payload("[]") });
        assert!(matches!(changes.as_slice(), [Change::Malformed(_)]));
        assert_eq!(follower.mark().unwrap().seq, 5);
    }
}
