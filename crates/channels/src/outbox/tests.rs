use std::io::{self, Write};

use proptest::prelude::*;
use tickwire_pubsub::{Epoch, Payload, Topic, Track};

use super::*;
use crate::lag::LagHistogram;

/// A socket that takes as many bytes as it is told to.
#[derive(Default)]
struct Pipe {
    taken: Vec<u8>,
    room: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(self.room);
        if take == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.taken.extend_from_slice(&bytes[..take]);
        self.room -= take;
        Ok(take)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    /// The texts that arrived whole, and empties it.
    fn texts(&mut self) -> Vec<String> {
        let (mut texts, mut rest) = (Vec::new(), self.taken.as_slice());
        while let [_, len, tail @ ..] = rest
            && tail.len() >= usize::from(*len)
        {
            assert!(*len < 126, "test frames are short");
            texts.push(String::from_utf8(tail[..usize::from(*len)].to_vec()).unwrap());
            rest = &tail[usize::from(*len)..];
        }
        self.taken = rest.to_vec();
        texts
    }

    fn all(outbox: &mut Outbox) -> Vec<String> {
        let mut pipe = Pipe { room: usize::MAX, ..Self::default() };
        outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
        assert!(outbox.is_empty() && outbox.bytes() == 0);
        pipe.texts()
    }
}

fn stamp(clock: u64, seq: u64) -> Stamp {
    Stamp { epoch: Epoch { clock, incarnation: 1, node: 1 }, seq }
}

fn message(topic: &str, role: Role, stamp: Stamp) -> Arc<Broadcast> {
    let event = match role {
        Role::Update => "u",
        Role::Snapshot => "s",
        Role::Status => "t",
    };
    let payload = Payload::Json(format!("{{\"q\":{}}}", stamp.seq).into());
    Arc::new(Broadcast::latest(Topic::new(topic).unwrap(), event.into(), payload, role, stamp, Instant::now()))
}

fn text(topic: &str, event: &str, seq: u64, n: u64) -> String {
    let n = if n == 1 { String::new() } else { format!(",\"n\":{n}") };
    format!("[null,null,\"{topic}\",\"{event}\",{{\"q\":{seq}{n}}}]")
}

/// One join, whose snapshot was taken before the first update.
struct Rig {
    outbox: Outbox,
    track: Track,
    now: Instant,
}

impl Rig {
    fn new(min_interval: Option<Duration>) -> Self {
        let (mut outbox, mut track, now) = (Outbox::new(WireFormat::V2), Track::default(), Instant::now());
        outbox.open(0, OriginId(1));
        let floor = Some(stamp(1, 0));
        assert_eq!(outbox.start(0, track.join(floor), floor, min_interval, now), Offer::Taken);
        Self { outbox, track, now }
    }

    fn update(&mut self, seq: u64) -> Offer {
        let message = message("a", Role::Update, stamp(1, seq));
        let number = self.track.receive(stamp(1, seq)).unwrap();
        self.outbox.offer(0, &message, number, self.now, self.now)
    }

    fn other(&mut self, role: Role, stamp: Stamp) {
        let number = if role == Role::Snapshot { self.track.restart(stamp).unwrap() } else { 0 };
        self.outbox.offer(0, &message("a", role, stamp), number, self.now, self.now);
    }

    /// Has the socket refuse everything.
    fn block(&mut self) {
        self.outbox.push(Bytes::from_static(b"\x81\x01x"));
        self.outbox.write(&mut Pipe::default(), &mut Bursts::default(), &mut Tally::default()).unwrap();
        assert!(self.outbox.is_blocked());
    }
}

#[test]
fn nothing_is_merged_while_the_socket_takes_everything() {
    let mut rig = Rig::new(None);
    for seq in 1..=3 {
        rig.update(seq);
    }
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 1, 1), text("a", "u", 2, 1), text("a", "u", 3, 1)]);
}

#[test]
fn a_blocked_socket_gets_the_newest_and_how_many_it_stands_for() {
    let mut rig = Rig::new(None);
    rig.update(1);
    rig.block();
    for seq in 2..=5 {
        rig.update(seq);
    }
    rig.other(Role::Status, stamp(1, 5));
    rig.other(Role::Status, stamp(1, 5));
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 5, 5), "x".into(), text("a", "t", 5, 1)]);
    rig.update(6);
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 6, 1)]);
}

#[test]
fn a_snapshot_makes_away_with_what_waits_and_n_never_spans_epochs() {
    let mut rig = Rig::new(None);
    rig.block();
    rig.update(1);
    rig.other(Role::Snapshot, stamp(2, 0));
    let after = message("a", Role::Update, stamp(2, 1));
    let number = rig.track.receive(stamp(2, 1)).unwrap();
    rig.outbox.offer(0, &after, number, rig.now, rig.now);
    assert_eq!(Pipe::all(&mut rig.outbox), ["x".into(), text("a", "s", 0, 1), text("a", "u", 1, 1)]);
}

#[test]
fn what_the_reply_contains_is_left_out_and_a_status_is_not() {
    let (mut outbox, mut track, now) = (Outbox::new(WireFormat::V2), Track::default(), Instant::now());
    outbox.open(0, OriginId(1));
    for seq in 1..=4 {
        let number = track.receive(stamp(1, seq)).unwrap();
        outbox.offer(0, &message("a", Role::Update, stamp(1, seq)), number, now, now);
    }
    outbox.offer(0, &message("a", Role::Status, stamp(1, 4)), 0, now, now);
    assert!(outbox.is_empty(), "the reply comes first");
    let floor = Some(stamp(1, 4));
    outbox.start(0, track.join(floor), floor, None, now);
    let number = track.receive(stamp(1, 5)).unwrap();
    outbox.offer(0, &message("a", Role::Update, stamp(1, 5)), number, now, now);
    assert_eq!(Pipe::all(&mut outbox), [text("a", "t", 4, 1), text("a", "u", 5, 1)]);
}

/// The reply may be ahead of the stream: a status from before its update would show a live value as stale, or the other way round.
#[test]
fn a_status_of_an_update_before_the_reply_is_left_out() {
    let mut rig = Rig::new(None);
    rig.outbox.open(1, OriginId(2));
    let floor = Some(stamp(1, 5));
    rig.outbox.start(1, rig.track.join(floor), floor, None, rig.now);
    for seq in [4, 5] {
        rig.outbox.offer(1, &message("a", Role::Status, stamp(1, seq)), 0, rig.now, rig.now);
    }
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "t", 5, 1)]);
}

/// The first is written, the second is replaced by the third: the lag of both is that of the second at least.
#[test]
fn the_lag_of_a_merged_update_is_that_of_the_oldest_at_least() {
    let mut rig = Rig::new(None);
    let [long_ago, soon_after] = [60, 50].map(|seconds| rig.now.checked_sub(Duration::from_secs(seconds)).unwrap());
    for (seq, accepted) in [(1, long_ago), (2, soon_after)] {
        let number = rig.track.receive(stamp(1, seq)).unwrap();
        let mut message = message("a", Role::Update, stamp(1, seq));
        Arc::get_mut(&mut message).unwrap().accepted_at = accepted;
        rig.outbox.offer(0, &message, number, accepted, rig.now);
    }
    let mut tally = Tally::default();
    let first = text("a", "u", 1, 1).len() + 2;
    rig.outbox.write(&mut Pipe { room: first, ..Pipe::default() }, &mut Bursts::default(), &mut tally).unwrap();
    rig.update(3);
    rig.outbox.write(&mut Pipe { room: usize::MAX, ..Pipe::default() }, &mut Bursts::default(), &mut tally).unwrap();
    let lag = LagHistogram::default();
    lag.add(&mut tally.lag);
    let sum = lag.snapshot().sum();
    assert!(sum >= Duration::from_secs(110), "{sum:?}: 60 s for the first, 50 s or more for the second");
    assert_eq!(lag.snapshot().count(), 3);
}

#[test]
fn what_came_before_the_reply_follows_it_as_one() {
    let (mut outbox, mut track, now) = (Outbox::new(WireFormat::V2), Track::default(), Instant::now());
    outbox.open(0, OriginId(1));
    for seq in 1..=4 {
        let number = track.receive(stamp(1, seq)).unwrap();
        outbox.offer(0, &message("a", Role::Update, stamp(1, seq)), number, now, now);
    }
    let floor = Some(stamp(1, 1));
    outbox.start(0, track.join(floor), floor, None, now);
    assert_eq!(Pipe::all(&mut outbox), [text("a", "u", 4, 3)]);
}

#[test]
fn lossless_messages_before_the_reply_are_bounded() {
    let mut outbox = Outbox::new(WireFormat::V2);
    let now = Instant::now();
    outbox.open(0, OriginId(1));
    let chat = Broadcast::lossless(Topic::new("a").unwrap(), "c".into(), Payload::empty(), now);
    let own = Broadcast::lossless(Topic::new("a").unwrap(), "c".into(), Payload::empty(), now).except(OriginId(1));
    let (chat, own) = (Arc::new(chat), Arc::new(own));
    for _ in 0..EARLY_MAX {
        assert_eq!(outbox.offer(0, &own, 0, now, now), Offer::Taken);
        assert_eq!(outbox.offer(0, &chat, 0, now, now), Offer::Taken);
    }
    assert_eq!(outbox.offer(0, &chat, 0, now, now), Offer::Overflow);
    outbox.start(0, Cursor::default(), None, None, now);
    assert_eq!(Pipe::all(&mut outbox).len(), EARLY_MAX);
}

#[test]
fn an_interval_lets_one_through_and_ends_on_the_latest() {
    let mut rig = Rig::new(Some(Duration::from_secs(1)));
    let start = rig.now;
    assert_eq!(rig.update(1), Offer::Taken);
    assert_eq!(rig.update(2), Offer::Due(start + Duration::from_secs(1)));
    assert_eq!(rig.update(3), Offer::Taken);
    rig.other(Role::Status, stamp(1, 3));
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 1, 1)]);
    rig.outbox.flush(0, start + Duration::from_millis(900));
    assert!(rig.outbox.is_empty(), "too early");
    rig.outbox.flush(0, start + Duration::from_secs(1));
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 3, 2), text("a", "t", 3, 1)]);
    rig.now = start + Duration::from_millis(1_500);
    assert_eq!(rig.update(4), Offer::Due(start + Duration::from_secs(2)));
    rig.now = start + Duration::from_secs(5);
    rig.outbox.flush(0, rig.now);
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 4, 1)]);
}

#[test]
fn a_control_frame_overtakes_all_but_the_rest_of_a_frame() {
    let mut rig = Rig::new(None);
    rig.update(1);
    rig.update(2);
    let mut pipe = Pipe { room: 5, ..Pipe::default() };
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    rig.outbox.push_control(Bytes::from_static(b"\x8a\x01p"));
    rig.outbox.push_control(Bytes::from_static(b"\x8a\x01q"));
    rig.update(3);
    // Room for what is left of the first frame and for a part of the first control frame.
    pipe.room = rig.outbox.entries[0].len(WireFormat::V2.into()) + 1;
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    rig.outbox.push_control(Bytes::from_static(b"\x8a\x01r"));
    pipe.room = usize::MAX;
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    rig.outbox.push_control(Bytes::from_static(b"\x8a\x01s"));
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    let pongs = ["p", "q", "r"].map(String::from);
    let expected = [&[text("a", "u", 1, 1)], &pongs[..], &[text("a", "u", 3, 2), "s".into()]].concat();
    assert_eq!(pipe.texts(), expected);
}

#[test]
fn what_piles_up_is_counted_without_the_frame_in_front() {
    let mut rig = Rig::new(None);
    assert_eq!(rig.outbox.bytes_behind(), 0);
    rig.outbox.push(vec![0; 1_000].into());
    assert_eq!(rig.outbox.bytes_behind(), 0);
    rig.outbox.push(vec![0; 10].into());
    assert_eq!(rig.outbox.bytes_behind(), 10);
    let mut pipe = Pipe { room: 400, ..Pipe::default() };
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    assert_eq!((rig.outbox.bytes(), rig.outbox.bytes_behind()), (610, 10));
}

#[test]
fn a_join_that_ends_takes_its_updates_with_it() {
    let mut rig = Rig::new(None);
    rig.update(1);
    rig.outbox.push(Bytes::from_static(b"\x81\x01r"));
    rig.outbox.close(0, &Bursts::default());
    assert_eq!(rig.update(2), Offer::Taken);
    assert_eq!(Pipe::all(&mut rig.outbox), ["r"]);
}

#[test]
fn compaction_leaves_the_newest_of_each_role() {
    let mut rig = Rig::new(None);
    for seq in 1..=50 {
        rig.update(seq);
        rig.other(Role::Status, stamp(1, seq));
    }
    rig.outbox.push(Bytes::from_static(b"\x81\x01r"));
    rig.outbox.compact();
    assert_eq!(Pipe::all(&mut rig.outbox), [text("a", "u", 50, 50), text("a", "t", 50, 1), "r".into()]);
}

#[test]
fn an_idle_outbox_gives_its_memory_back() {
    let mut rig = Rig::new(None);
    for seq in 1..=10_000 {
        rig.update(seq);
    }
    Pipe::all(&mut rig.outbox);
    assert!(rig.outbox.entries.capacity() <= 8);
}

#[derive(Debug, Clone)]
enum Step {
    /// An update of a topic; every seventh or so is lost on its way here.
    Update(u8, bool),
    /// What a turn finds for a topic, late or not.
    Burst(u8, u8, bool),
    /// The same of messages that are never merged.
    Talk(u8, u8),
    /// The join ends, and begins again with all that there was.
    Rejoin(u8),
    Reply,
    Pong,
    Write(usize),
    Compact,
    Status(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..3, prop::bool::weighted(0.15)).prop_map(|(topic, lost)| Step::Update(topic, lost)),
        6 => (0_u8..3, 1_u8..6, prop::bool::weighted(0.2)).prop_map(|(topic, count, late)| Step::Burst(topic, count, late)),
        3 => (0_u8..3, 1_u8..4).prop_map(|(topic, count)| Step::Talk(topic, count)),
        1 => (0_u8..3).prop_map(Step::Rejoin),
        1 => Just(Step::Reply),
        1 => Just(Step::Pong),
        4 => (0_usize..200).prop_map(Step::Write),
        1 => Just(Step::Compact),
        1 => (0_u8..3).prop_map(Step::Status),
    ]
}

/// What the client of a new join has already.
fn marker(index: usize, seq: u64, received: u64) -> Bytes {
    let text = format!("join {index} {seq} {received}");
    let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
    frame.extend_from_slice(text.as_bytes());
    frame.into()
}

/// A message that is never merged.
fn word(topic: &str, number: u64) -> Arc<Broadcast> {
    let payload = Payload::Json(format!("{{\"q\":{number}}}").into());
    Arc::new(Broadcast::lossless(Topic::new(topic).unwrap(), "l".into(), payload, Instant::now()))
}

/// What a worker does with a burst for one join.
fn hand_out(outbox: &mut Outbox, slot: u32, burst: BurstId, bursts: &mut Bursts, now: Instant) {
    let waits = outbox.is_blocked() || !outbox.is_empty();
    if outbox.owe(slot, burst, bursts) {
        return assert!(!waits);
    }
    let mut place = 0;
    while let Some((message, number, since)) = bursts.message(burst, place) {
        outbox.offer(slot, &message, number, since, now);
        place += 1;
    }
}

proptest! {
    /// However a socket dawdles, each join is told of every update that was received, none twice, in order; replies all arrive, in order;
    /// and the bytes are counted right.
    #[test]
    fn n_adds_up_to_what_was_received(steps in prop::collection::vec(step(), 1..400)) {
        let topics = ["a", "b", "c"];
        let now = Instant::now();
        let mut outbox = Outbox::new(WireFormat::V2);
        let mut tracks = [Track::default(); 3];
        for slot in 0..3 {
            outbox.open(slot, OriginId(1));
            let floor = Some(stamp(1, 0));
            outbox.start(slot, tracks[slot as usize].join(floor), floor, None, now);
        }
        let (mut pipe, mut bursts, mut tally) = (Pipe::default(), Bursts::default(), Tally::default());
        let (mut seqs, mut arrived, mut received, mut replies) = ([0_u64; 3], [0_u64; 3], [0_u64; 3], 0_u64);
        let (mut texts, mut said) = (Vec::new(), [0_u64; 3]);
        for step in steps {
            match step {
                Step::Talk(topic, count) => {
                    let index = usize::from(topic);
                    let mut burst = None;
                    for _ in 0..count {
                        said[index] += 1;
                        let message = word(topics[index], said[index]);
                        match burst {
                            None => burst = Some(bursts.begin(message, 0, false)),
                            Some(burst) => prop_assert!(bursts.extend(burst, &message, 0)),
                        }
                    }
                    hand_out(&mut outbox, u32::from(topic), burst.unwrap(), &mut bursts, now);
                }
                Step::Update(topic, lost) => {
                    let index = usize::from(topic);
                    seqs[index] += 1;
                    if !lost {
                        received[index] += 1;
                        arrived[index] = seqs[index];
                        let stamp = stamp(1, seqs[index]);
                        let number = tracks[index].receive(stamp).unwrap();
                        outbox.offer(u32::from(topic), &message(topics[index], Role::Update, stamp), number, now, now);
                    }
                }
                Step::Burst(topic, count, late) => {
                    let (slot, index) = (u32::from(topic), usize::from(topic));
                    let mut burst = None;
                    for _ in 0..count {
                        (seqs[index], received[index]) = (seqs[index] + 1, received[index] + 1);
                        arrived[index] = seqs[index];
                        let stamp = stamp(1, seqs[index]);
                        let (number, message) = (tracks[index].receive(stamp).unwrap(), message(topics[index], Role::Update, stamp));
                        match burst {
                            None => burst = Some(bursts.begin(message, number, late)),
                            Some(burst) => prop_assert!(bursts.extend(burst, &message, number)),
                        }
                    }
                    hand_out(&mut outbox, slot, burst.unwrap(), &mut bursts, now);
                }
                Step::Rejoin(topic) => {
                    let (slot, index) = (u32::from(topic), usize::from(topic));
                    outbox.close(slot, &bursts);
                    outbox.open(slot, OriginId(1));
                    // Not what was lost: whether its snapshot contains that is the track's business.
                    let floor = Some(stamp(1, arrived[index]));
                    // Its client has all up to here from the reply; a marker tells the test.
                    outbox.push(marker(index, arrived[index], received[index]));
                    outbox.start(slot, tracks[index].join(floor), floor, None, now);
                }
                Step::Status(topic) => {
                    let index = usize::from(topic);
                    outbox.offer(u32::from(topic), &message(topics[index], Role::Status, stamp(1, seqs[index])), 0, now, now);
                }
                Step::Reply => {
                    let text = format!("reply {replies}");
                    let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
                    frame.extend_from_slice(text.as_bytes());
                    outbox.push(frame.into());
                    replies += 1;
                }
                Step::Pong => outbox.push_control(Bytes::from_static(b"\x8a\x04pong")),
                Step::Write(room) => {
                    pipe.room = room;
                    outbox.write(&mut pipe, &mut bursts, &mut tally).unwrap();
                    bursts.end(&mut tally);
                }
                Step::Compact => outbox.compact(),
            }
            let waits: usize = outbox.entries.iter().map(|entry| entry.len(WireFormat::V2.into())).sum();
            prop_assert_eq!(outbox.bytes(), waits);
        }
        pipe.room = usize::MAX;
        outbox.write(&mut pipe, &mut bursts, &mut tally).unwrap();
        bursts.end(&mut tally);
        prop_assert!(outbox.is_empty());
        texts.extend(pipe.texts());
        prop_assert!(pipe.taken.is_empty());

        let (mut told, mut last, mut heard, mut replied, mut merged) = ([0_u64; 3], [0_u64; 3], [0_u64; 3], 0, 0);
        for text in &texts {
            let Ok((_, _, topic, event, body)) = serde_json::from_str::<(Option<u8>, Option<u8>, String, String, serde_json::Value)>(text) else {
                if let Some(join) = text.strip_prefix("join ") {
                    let [index, seq, count] = <[u64; 3]>::try_from(join.split(' ').map(|part| part.parse().unwrap()).collect::<Vec<_>>()).unwrap();
                    let index = usize::try_from(index).unwrap();
                    (last[index], told[index]) = (seq, count);
                } else if text != "pong" {
                    prop_assert_eq!(text, &format!("reply {replied}"));
                    replied += 1;
                }
                continue;
            };
            let index = topics.iter().position(|known| **known == *topic).unwrap();
            let seq = body["q"].as_u64().unwrap();
            if event == "l" {
                heard[index] += 1;
                prop_assert_eq!(seq, heard[index], "none is left out, none comes twice");
            }
            if event != "u" {
                continue;
            }
            prop_assert!(seq > last[index], "nothing goes back");
            last[index] = seq;
            let n = body["n"].as_u64().unwrap_or(1);
            told[index] += n;
            merged += n - 1;
        }
        prop_assert_eq!(told, received);
        prop_assert_eq!(heard, said);
        prop_assert_eq!(replied, replies);
        prop_assert_eq!(tally.conflated, merged);
    }
}

/// The reply of a join may have some of what a room says at the same time, and what is said without a place in its order stands between.
#[test]
fn what_the_reply_contains_of_a_burst_is_left_out_wherever_it_stands() {
    let (mut outbox, mut track, mut bursts, now) =
        (Outbox::new(WireFormat::V2), Track::default(), Bursts::default(), Instant::now());
    outbox.open(0, OriginId(1));
    let floor = Some(stamp(1, 7));
    outbox.start(0, track.join(floor), floor, None, now);
    let say = |number, seq: Option<u64>| {
        let message = Arc::into_inner(word("a", number)).unwrap();
        Arc::new(if let Some(seq) = seq { message.stamped(stamp(1, seq)) } else { message })
    };
    let burst = bursts.begin(say(1, None), 0, false);
    assert!(bursts.extend(burst, &say(2, Some(7)), 0) && bursts.extend(burst, &say(3, Some(8)), 0));
    hand_out(&mut outbox, 0, burst, &mut bursts, now);
    assert_eq!(Pipe::all(&mut outbox), [text("a", "l", 1, 1), text("a", "l", 3, 1)]);
}

/// Too much to be copied, it is written as it stands, in the same order.
#[test]
fn a_socket_may_owe_any_amount_of_bursts() {
    let mut rig = Rig::new(None);
    let mut bursts = Bursts::default();
    let mut expected = Vec::new();
    for number in 1..=3 {
        let payload = Payload::Json(format!("\"{number}{}\"", "x".repeat(40_000)).into());
        let message = Broadcast::lossless(Topic::new("a").unwrap(), "l".into(), payload, rig.now);
        let burst = bursts.begin(Arc::new(message), 0, false);
        expected.extend_from_slice(bursts.get(burst).bytes(WireFormat::V2.into()).unwrap());
        assert!(rig.outbox.owe(0, burst, &mut bursts));
    }
    let mut pipe = Pipe { room: usize::MAX, ..Pipe::default() };
    rig.outbox.write(&mut pipe, &mut bursts, &mut Tally::default()).unwrap();
    assert!(pipe.taken == expected && rig.outbox.is_empty() && rig.outbox.bytes() == 0);
}

/// Once with all that it owes, and once more with what it left.
#[test]
fn a_socket_that_takes_a_part_is_asked_twice() {
    let (mut rig, mut bursts, mut tally) = (Rig::new(None), Bursts::default(), Tally::default());
    let burst = bursts.begin(word("a", 1), 0, false);
    for number in 2..=100 {
        assert!(bursts.extend(burst, &word("a", number), 0));
    }
    assert!(rig.outbox.owe(0, burst, &mut bursts));
    let mut pipe = Pipe { room: 2_000, ..Pipe::default() };
    rig.outbox.write(&mut pipe, &mut bursts, &mut tally).unwrap();
    assert!(rig.outbox.is_blocked() && tally.calls == 2 && tally.bytes == 2_000, "{} calls", tally.calls);
}

/// One turn with very much to write must not keep its room for good.
#[test]
fn the_room_of_a_big_turn_is_given_back() {
    let (mut bursts, mut tally) = (Bursts::default(), Tally::default());
    let mut turn = |owes: usize| {
        let burst = bursts.begin(word("a", 1), 0, false);
        for _ in 0..owes {
            bursts.owe(&mut None, burst, 0);
        }
        bursts.end(&mut tally);
        bursts.room()
    };
    let big = turn(1_000_000);
    assert!(big >= 1_000_000 && turn(900_000) == big, "used again and again, it is kept");
    assert!(turn(10) < 20_000);
}

/// The texts of compressed frames.
fn inflated(taken: &[u8]) -> Vec<String> {
    let (mut texts, mut rest) = (Vec::new(), taken);
    while let [first, len, tail @ ..] = rest {
        assert!(*first == 0xc1 && *len < 126, "compressed, and short");
        let (payload, tail) = tail.split_at(usize::from(*len));
        texts.push(String::from_utf8(crate::deflate::inflate(payload, 1_000).unwrap()).unwrap());
        rest = tail;
    }
    texts
}

/// Each message once, however many sockets get it, and not at all for those that take it as it is. What stands for several is its own.
#[test]
fn what_is_compressed_is_shared_by_those_who_agreed_to_the_same() {
    let wires = [None, Some(Window::Full), Some(Window::Small)].map(|deflate| Wire { format: WireFormat::V2, deflate });
    let lossless = Arc::new(Broadcast::lossless(
        Topic::new("a").unwrap(),
        "e".into(),
        Payload::Json(Bytes::from_static(b"[\"aaaaaaaa\",\"aaaaaaaa\"]")),
        Instant::now(),
    ));
    let frames = wires.map(|wire| shared_frame(wire, &lossless).unwrap().as_ptr());
    assert_eq!(frames, wires.map(|wire| shared_frame(wire, &lossless).unwrap().as_ptr()));
    assert!(frames[0] != frames[1] && frames[1] != frames[2]);
    let mut rig = Rig::new(None);
    rig.outbox.wire = wires[1];
    rig.update(1);
    let mut pipe = Pipe { room: 5, ..Pipe::default() };
    rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    for seq in 2..=4 {
        rig.update(seq);
    }
    rig.outbox.offer(0, &lossless, 0, rig.now, rig.now);
    while !rig.outbox.is_empty() {
        // A byte at a time: what has begun goes on as it began.
        pipe.room += 1;
        rig.outbox.write(&mut pipe, &mut Bursts::default(), &mut Tally::default()).unwrap();
    }
    assert_eq!(rig.outbox.bytes(), 0);
    let lossless = r#"[null,null,"a","e",["aaaaaaaa","aaaaaaaa"]]"#.to_owned();
    assert_eq!(inflated(&pipe.taken), [text("a", "u", 1, 1), text("a", "u", 4, 3), lossless]);
}
