//! The `room` kind: a Phoenix app's plain channel. What a client sends goes to all others, or comes back to it, as the configuration says
//! per event; the last messages wait for those who join.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::metrics::gauge;
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tickwire_channels::{
    Channel, Context, Flow, JoinRequest, Joined, Joining, Kind, Refusal, Status, channel::reason_payload, json,
};
use tickwire_market::Moment;
use tickwire_pubsub::{Broadcast, Busy, EpochClock, NodeId, OriginId, Payload, PubSub, Stamp, Topic};

use crate::{access::Gate, metrics};

/// What an entry of the configuration says about its rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomRule {
    /// Events that go to all others.
    pub(crate) broadcast: Vec<String>,
    /// Events that come back in the reply.
    pub(crate) echo: Vec<String>,
    /// How many of the last messages a joiner gets.
    pub(crate) history: usize,
}

/// The bounds of all rooms together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomBounds {
    /// Rooms whose history is kept.
    pub(crate) rooms_max: usize,
    /// Bytes of all histories.
    pub(crate) bytes_max: usize,
    /// Bytes of one history: a joiner gets all of it in one reply, which must fit well into what a socket may leave unread.
    pub(crate) room_bytes_max: usize,
    /// A room that nobody is in and nobody writes to is forgotten after this time.
    pub(crate) idle: Duration,
}

impl Default for RoomBounds {
    fn default() -> Self {
        Self { rooms_max: 10_000, bytes_max: 64 << 20, room_bytes_max: 256 << 10, idle: Duration::from_secs(1800) }
    }
}

/// The histories of a node's rooms. A room without history needs no state: pubsub knows who is in it.
#[derive(Debug)]
pub(crate) struct Rooms {
    pubsub: PubSub,
    epochs: EpochClock,
    bounds: RoomBounds,
    bytes: AtomicUsize,
    rooms: Mutex<HashMap<Topic, Arc<Room>>>,
}

/// A room whose history is kept. Channels hold it, so that one that somebody is in is not forgotten.
#[derive(Debug)]
struct Room(Mutex<History>);

#[derive(Debug)]
struct History {
    stamp: Stamp,
    entries: VecDeque<Entry>,
    bytes: usize,
    used: Instant,
}

#[derive(Debug)]
struct Entry {
    event: Arc<str>,
    payload: Bytes,
    /// Microseconds since the Unix epoch.
    ts: i64,
}

impl Entry {
    /// What it takes in memory, roughly.
    fn cost(&self) -> usize {
        self.event.len() + self.payload.len() + size_of::<Self>()
    }
}

impl Rooms {
    /// No rooms yet.
    pub(crate) fn new(pubsub: PubSub, node: &NodeId, bounds: RoomBounds) -> Self {
        Self { pubsub, epochs: EpochClock::new(node), bounds, bytes: AtomicUsize::new(0), rooms: Mutex::default() }
    }

    /// Sends an event to everyone in the room, but for its sender, and keeps it for those who join later.
    ///
    /// # Errors
    /// If the node is at capacity; nothing is sent then.
    pub(crate) fn publish(
        &self,
        rule: &RoomRule,
        topic: &Topic,
        event: &str,
        payload: &Payload,
        from: Option<OriginId>,
        now: Moment,
    ) -> Result<(), Busy> {
        self.pubsub.admit()?;
        let event: Arc<str> = event.into();
        let mut message = Broadcast::lossless(topic.clone(), Arc::clone(&event), payload.clone(), now.instant);
        if let Some(from) = from {
            message = message.except(from);
        }
        let Some(room) = self.room(rule, topic, now) else {
            self.pubsub.broadcast(&[Arc::new(message)]);
            return Ok(());
        };
        // Published while the room is held: the order of the history is the order in which everyone in the room gets it.
        let mut history = room.0.lock();
        history.stamp.seq += 1;
        history.used = now.instant;
        let stamp = history.stamp;
        if let Payload::Json(payload) = payload {
            let entry = Entry { event, payload: Bytes::copy_from_slice(payload), ts: now.unix_us };
            self.keep(&mut history, entry, rule.history);
        }
        self.pubsub.broadcast(&[Arc::new(message.stamped(stamp))]);
        Ok(())
    }

    /// The room's last messages as the reply of a join, the stamp of the last of them, and the room, to be held while the client is in it.
    fn enter(&self, rule: &RoomRule, topic: &Topic, now: Moment) -> (Payload, Option<Stamp>, Option<Arc<Room>>) {
        if rule.history == 0 {
            return (Payload::empty(), None, None);
        }
        let Some(room) = self.room(rule, topic, now) else {
            return (Payload::Json(Bytes::from_static(b"{\"history\":[]}")), None, None);
        };
        let history = room.0.lock();
        let reply = history.to_json(rule.history);
        // A room that was never written to has nothing that could come twice.
        let floor = (history.stamp.seq > 0).then_some(history.stamp);
        drop(history);
        (reply, floor, Some(room))
    }

    /// Forgets the rooms that nobody is in and nobody writes to.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut rooms = self.rooms.lock();
        self.evict(&mut rooms, |history| now.saturating_duration_since(history.used) >= self.bounds.idle);
        gauge!(metrics::ROOMS).set(rooms.len() as f64);
    }

    fn room(&self, rule: &RoomRule, topic: &Topic, now: Moment) -> Option<Arc<Room>> {
        if rule.history == 0 {
            return None;
        }
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(topic) {
            return Some(Arc::clone(room));
        }
        if rooms.len() >= self.bounds.rooms_max {
            self.evict_oldest(&mut rooms);
        }
        if rooms.len() >= self.bounds.rooms_max {
            tickwire_pubsub::metrics::dropped(metrics::ROOM_HISTORY, 1);
            return None;
        }
        let stamp = Stamp { epoch: self.epochs.open(now.unix_us.unsigned_abs()), seq: 0 };
        let history = History { stamp, entries: VecDeque::new(), bytes: 0, used: now.instant };
        let room = Arc::new(Room(Mutex::new(history)));
        rooms.insert(topic.clone(), Arc::clone(&room));
        gauge!(metrics::ROOMS).set(rooms.len() as f64);
        Some(room)
    }

    /// Keeps a message, and as many of those before it as there is room for.
    fn keep(&self, history: &mut History, entry: Entry, entries_max: usize) {
        let cost = entry.cost();
        let is_full = |history: &History| {
            history.entries.len() >= entries_max
                || history.bytes + cost > self.bounds.room_bytes_max
                || self.bytes.load(Ordering::Relaxed) + cost > self.bounds.bytes_max
        };
        while is_full(history)
            && let Some(oldest) = history.entries.pop_front()
        {
            history.bytes -= oldest.cost();
            self.bytes.fetch_sub(oldest.cost(), Ordering::Relaxed);
        }
        // What does not fit even so is not kept: it was delivered all the same.
        if is_full(history) {
            tickwire_pubsub::metrics::dropped(metrics::ROOM_HISTORY, 1);
        } else {
            history.bytes += cost;
            self.bytes.fetch_add(cost, Ordering::Relaxed);
            history.entries.push_back(entry);
        }
    }

    /// Makes room: an eighth of the rooms that nobody is in, those first that were not used for longest.
    fn evict_oldest(&self, rooms: &mut HashMap<Topic, Arc<Room>>) {
        let mut used: Vec<_> = rooms.values().filter(|room| is_empty(room)).map(|room| room.0.lock().used).collect();
        let count = (self.bounds.rooms_max / 8).max(1).min(used.len());
        if count == 0 {
            return;
        }
        let (_, &mut limit, _) = used.select_nth_unstable(count - 1);
        self.evict(rooms, |history| history.used <= limit);
    }

    fn evict(&self, rooms: &mut HashMap<Topic, Arc<Room>>, leaves: impl Fn(&History) -> bool) {
        rooms.retain(|_, room| {
            let history = room.0.lock();
            let goes = is_empty(room) && leaves(&history);
            if goes {
                self.bytes.fetch_sub(history.bytes, Ordering::Relaxed);
            }
            !goes
        });
    }
}

/// Whether only the table holds it. Nobody else can take hold of it meanwhile: that needs the table.
fn is_empty(room: &Arc<Room>) -> bool {
    Arc::strong_count(room) == 1
}

impl History {
    fn to_json(&self, entries_max: usize) -> Payload {
        let mut out = b"{\"history\":[".to_vec();
        for (index, entry) in self.entries.iter().rev().take(entries_max).rev().enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"event\":" } else { b",{\"event\":" });
            json::write_string(&mut out, &entry.event);
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(&entry.payload);
            out.extend_from_slice(b",\"ts\":");
            out.extend_from_slice(entry.ts.to_string().as_bytes());
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        Payload::Json(out.into())
    }
}

/// The kind of channel.
#[derive(Debug)]
pub(crate) struct RoomKind {
    /// The histories.
    pub(crate) rooms: Arc<Rooms>,
    /// What the configuration says.
    pub(crate) rule: Arc<RoomRule>,
    /// Who may do what.
    pub(crate) gate: Gate,
}

impl Kind for RoomKind {
    fn join(&self, request: JoinRequest) -> Joining {
        if !self.gate.may_join(&request.socket, &request.topic) {
            return Refusal::reason("unauthorized").into();
        }
        let (reply, floor, room) = self.rooms.enter(&self.rule, &request.topic, Moment::now());
        let (rooms, rule) = (Arc::clone(&self.rooms), Arc::clone(&self.rule));
        let channel = RoomChannel { rooms, rule, gate: self.gate, _room: room };
        let joined = Joined::new(channel).reply(reply);
        match floor {
            Some(floor) => joined.floor(floor),
            None => joined,
        }
        .into()
    }
}

struct RoomChannel {
    rooms: Arc<Rooms>,
    rule: Arc<RoomRule>,
    gate: Gate,
    _room: Option<Arc<Room>>,
}

impl RoomChannel {
    fn answer(&self, event: &str, payload: &Payload, context: &Context<'_>) -> Result<Payload, &'static str> {
        let is_in = |events: &[String]| events.iter().any(|known| known == event);
        let (broadcasts, echoes) = (is_in(&self.rule.broadcast), is_in(&self.rule.echo));
        if !broadcasts && !echoes {
            return Err("unhandled event");
        }
        if broadcasts {
            // Asked each time: a client may show another token while it is here.
            if !self.gate.may_write(context.socket(), context.topic()) {
                return Err("unauthorized");
            }
            let from = Some(context.handle().origin());
            let sent = self.rooms.publish(&self.rule, context.topic(), event, payload, from, Moment::now());
            sent.map_err(|_| "busy")?;
        }
        Ok(if echoes { payload.clone() } else { Payload::empty() })
    }
}

impl Channel for RoomChannel {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match self.answer(event, payload, context) {
            Ok(response) => context.reply(Status::Ok, response),
            Err(reason) => context.reply(Status::Error, reason_payload(reason)),
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    use tickwire_pubsub::LoneNode;

    use super::*;

    const RULE: RoomRule = RoomRule { broadcast: Vec::new(), echo: Vec::new(), history: 3 };

    fn rooms(bytes_max: usize, room_bytes_max: usize) -> Rooms {
        let bounds = RoomBounds { bytes_max, room_bytes_max, ..RoomBounds::default() };
        let id = NodeId::new("a", 1);
        Rooms::new(PubSub::new(Arc::new(LoneNode::new(id.clone()))), &id, bounds)
    }

    fn say(rooms: &Rooms, room: &str, event: &str, bytes: usize) {
        let payload = Payload::Json(format!("\"{}\"", "x".repeat(bytes)).into());
        rooms.publish(&RULE, &Topic::new(room).unwrap(), event, &payload, None, Moment::now()).unwrap();
    }

    fn kept(rooms: &Rooms, room: &str) -> Vec<String> {
        let (Payload::Json(reply), ..) = rooms.enter(&RULE, &Topic::new(room).unwrap(), Moment::now()) else {
            panic!("a history is JSON")
        };
        let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
        reply["history"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_history_keeps_the_newest_messages_that_fit() {
        let rooms = rooms(1 << 20, 4096);
        for event in ["a", "b", "c", "d"] {
            say(&rooms, "room:1", event, 10);
        }
        assert_eq!(kept(&rooms, "room:1"), ["b", "c", "d"]);
        say(&rooms, "room:1", "large", 4000);
        assert_eq!(kept(&rooms, "room:1"), ["large"]);
        say(&rooms, "room:1", "small", 10);
        assert_eq!(kept(&rooms, "room:1"), ["small"]);
        // Messages come without a hole: what is too large to be kept ends what was kept before it.
        say(&rooms, "room:1", "too large", 5000);
        assert_eq!(kept(&rooms, "room:1"), [""; 0]);
    }

    #[test]
    fn a_history_moves_on_when_the_memory_of_all_is_used_up() {
        let rooms = rooms(4096, 4096);
        say(&rooms, "room:large", "large", 3700);
        for event in ["a", "b", "c", "d"] {
            say(&rooms, "room:small", event, 10);
        }
        let small = kept(&rooms, "room:small");
        assert_eq!(small.last().map(String::as_str), Some("d"), "{small:?}");
        assert!(rooms.bytes.load(Ordering::Relaxed) <= 4096);
    }
}
