use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{Broadcast, Epoch, LoneNode, NodeId, Payload, PubSub, Role, Stamp, Topic};

fn lone() -> PubSub {
    PubSub::new(Arc::new(LoneNode::new(NodeId::new("a", 1))))
}

fn topic(number: usize) -> Topic {
    Topic::new(&format!("t{number}")).unwrap()
}

fn stamp(clock: u64, seq: u64) -> Stamp {
    Stamp { epoch: Epoch { clock, incarnation: 1, node: 1 }, seq }
}

fn latest(topic: &Topic, role: Role, stamp: Stamp) -> Arc<Broadcast> {
    let (payload, now) = (Payload::Json(Bytes::from_static(b"{}")), std::time::Instant::now());
    Arc::new(Broadcast::latest(topic.clone(), "update".into(), payload, role, stamp, now))
}

/// How often it was woken.
#[derive(Default)]
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a reader takes now: of each message its seq and n.
fn take(mailbox: &mut Mailbox, waker: &Waker) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    mailbox.take(waker, Instant::now(), &mut taken).unwrap();
    taken.iter().map(|delivery| (delivery.message.stamp.unwrap().seq, delivery.n)).collect()
}

fn follow(mailbox: &mut Mailbox, number: usize, floor: Stamp) {
    mailbox.subscribe(&topic(number)).unwrap().start(Some(floor));
}

/// A wake-up costs more than all else that a message costs a reader.
#[test]
fn a_reader_is_woken_once_until_it_has_looked() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 2);
    let (count, mut mailbox) = (Arc::new(Count::default()), room.mailbox(8, None));
    let waker = Waker::from(Arc::clone(&count));
    (0..3).for_each(|number| follow(&mut mailbox, number, stamp(1, 0)));
    assert_eq!(take(&mut mailbox, &waker), []);
    for seq in 1..=100 {
        let batch: Vec<_> = (0..3).map(|number| latest(&topic(number), Role::Update, stamp(1, seq))).collect();
        pubsub.broadcast(&batch);
    }
    assert_eq!(count.get(), 1);
    assert_eq!(take(&mut mailbox, &waker), [(100, 100); 3]);
    pubsub.broadcast(&[latest(&topic(1), Role::Update, stamp(1, 101))]);
    assert_eq!(count.get(), 1, "it knows that it is to look until there is nothing");
    assert_eq!(take(&mut mailbox, &waker), [(101, 1)]);
    assert_eq!(take(&mut mailbox, &waker), []);
    pubsub.broadcast(&[latest(&topic(0), Role::Update, stamp(1, 50))]);
    assert_eq!(count.get(), 1, "an old update is no news");
}

#[test]
fn topics_come_in_the_order_in_which_they_began_to_wait() {
    let pubsub = lone();
    let mut mailbox = Mailroom::new(&pubsub, 1).mailbox(8, None);
    (0..4).for_each(|number| follow(&mut mailbox, number, stamp(1, 0)));
    for (number, seq) in [(2, 1), (0, 10), (3, 20), (2, 2)] {
        pubsub.broadcast(&[latest(&topic(number), Role::Update, stamp(1, seq))]);
    }
    assert_eq!(take(&mut mailbox, Waker::noop()), [(2, 2), (10, 1), (20, 1)]);
}

/// Thousands of readers that do not read must not keep what they have missed.
#[test]
fn nothing_is_kept_for_a_reader_that_does_not_read_but_the_newest() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 1);
    let mut stuck: Vec<_> = (0..10).map(|_| room.mailbox(8, None)).collect();
    stuck.iter_mut().for_each(|mailbox| follow(mailbox, 0, stamp(1, 0)));
    let mut sent: Vec<Weak<Broadcast>> = Vec::new();
    for seq in 1..=1_000 {
        let message = latest(&topic(0), Role::Update, stamp(1, seq));
        sent.push(Arc::downgrade(&message));
        pubsub.broadcast(&[message]);
    }
    assert_eq!(sent.iter().filter(|message| message.strong_count() > 0).count(), 1);
    assert_eq!(sent[999].strong_count(), 1, "one copy for all of them");
    for mailbox in &mut stuck {
        assert_eq!(take(mailbox, Waker::noop()), [(1_000, 1_000)]);
    }
    drop(stuck);
    assert_eq!(sent[999].strong_count(), 0, "the topic goes with its last reader");
}

/// Each reader has its own pace, and another's interval is not its business.
#[tokio::test(start_paused = true)]
async fn an_interval_is_that_of_its_reader_alone() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 1);
    let (mut fast, mut slow) = (room.mailbox(8, None), room.mailbox(8, Some(Duration::from_millis(100))));
    for mailbox in [&mut fast, &mut slow] {
        follow(mailbox, 0, stamp(1, 0));
    }
    for seq in 1..=4 {
        pubsub.broadcast(&[latest(&topic(0), Role::Update, stamp(1, seq))]);
        assert_eq!(take(&mut fast, Waker::noop()), [(seq, 1)]);
        let expected = if seq == 1 { vec![(1, 1)] } else { Vec::new() };
        assert_eq!(take(&mut slow, Waker::noop()), expected);
    }
    let next = slow.next().await.unwrap();
    assert_eq!((next[0].message.stamp.unwrap().seq, next[0].n), (4, 3));
    drop(slow);
    pubsub.broadcast(&[latest(&topic(0), Role::Update, stamp(1, 5))]);
    assert_eq!(take(&mut fast, Waker::noop()), [(5, 1)]);
}

/// A join's snapshot may be of a run whose first message has not come to this node yet.
#[test]
fn a_snapshot_of_a_later_run_ends_the_one_before_for_its_reader_alone() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 1);
    let (mut old, mut new) = (room.mailbox(8, None), room.mailbox(8, None));
    follow(&mut old, 0, stamp(1, 0));
    pubsub.broadcast(&[latest(&topic(0), Role::Update, stamp(1, 1))]);
    follow(&mut new, 0, stamp(2, 3));
    assert_eq!(take(&mut new, Waker::noop()), []);
    assert_eq!(take(&mut old, Waker::noop()), [(1, 1)]);
    pubsub.broadcast(&[latest(&topic(0), Role::Snapshot, stamp(2, 0)), latest(&topic(0), Role::Update, stamp(2, 3))]);
    assert_eq!(take(&mut new, Waker::noop()), []);
    assert_eq!(take(&mut old, Waker::noop()), [(0, 1)]);
    pubsub.broadcast(&[latest(&topic(0), Role::Update, stamp(2, 4))]);
    assert_eq!(take(&mut new, Waker::noop()), [(4, 1)]);
    assert_eq!(take(&mut old, Waker::noop()).iter().map(|&(seq, _)| seq).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_room_that_closes_ends_its_readers_and_those_still_to_come() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 2);
    let (count, mut mailbox) = (Arc::new(Count::default()), room.mailbox(8, None));
    follow(&mut mailbox, 0, stamp(1, 0));
    take(&mut mailbox, &Waker::from(Arc::clone(&count)));
    room.close();
    assert_eq!(count.get(), 1);
    for mut mailbox in [mailbox, room.mailbox(8, None)] {
        let ended = mailbox.take(Waker::noop(), Instant::now(), &mut Vec::new());
        assert_eq!(ended, Err(MailboxEnd::Closed));
    }
}

/// One of the things that happen in a mail room.
#[derive(Debug, Clone)]
enum Event {
    Publish { topic: usize },
    Enter { topics: Vec<usize> },
    Take { reader: usize },
    Leave { reader: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_usize..4).prop_map(|topic| Event::Publish { topic }),
        1 => proptest::collection::btree_set(0_usize..4, 1..4).prop_map(|topics| Event::Enter { topics: topics.into_iter().collect() }),
        3 => (0_usize..6).prop_map(|reader| Event::Take { reader }),
        1 => (0_usize..6).prop_map(|reader| Event::Leave { reader }),
    ]
}

/// A reader, and the seq that it has reached in each of its topics.
struct Reader {
    mailbox: Mailbox,
    reached: Vec<(Topic, u64)>,
}

impl Reader {
    /// Everything that is told adds up: a step of `n` for each message, and it ends on the newest.
    fn check(&mut self, newest: &[u64; 4]) {
        let mut taken = Vec::new();
        self.mailbox.take(Waker::noop(), Instant::now(), &mut taken).unwrap();
        for delivery in taken {
            let (_, reached) =
                self.reached.iter_mut().find(|(topic, _)| *topic == delivery.message.topic).expect("its own topic");
            *reached += delivery.n;
            assert_eq!(*reached, delivery.message.stamp.unwrap().seq);
        }
        for (name, reached) in &self.reached {
            let number: usize = name[1..].parse().unwrap();
            assert_eq!(*reached, newest[number]);
        }
    }
}

proptest! {
    /// Whoever comes, goes or looks, in whatever order: every reader sees each of its topics whole.
    #[test]
    fn n_adds_up_for_every_reader(events in proptest::collection::vec(event(), 0..200)) {
        let pubsub = lone();
        let room = Mailroom::new(&pubsub, 2);
        let mut newest = [0; 4];
        let mut readers: Vec<Reader> = Vec::new();
        for event in events {
            match event {
                Event::Publish { topic: number } => {
                    newest[number] += 1;
                    pubsub.broadcast(&[latest(&topic(number), Role::Update, stamp(1, newest[number]))]);
                }
                Event::Enter { topics } if readers.len() < 6 => {
                    let mut mailbox = room.mailbox(8, None);
                    let floors: Vec<_> = topics.iter().map(|&number| (topic(number), newest[number])).collect();
                    topics.iter().for_each(|&number| follow(&mut mailbox, number, stamp(1, newest[number])));
                    readers.push(Reader { mailbox, reached: floors });
                }
                Event::Take { reader } => readers.iter_mut().skip(reader).take(1).for_each(|reader| reader.check(&newest)),
                Event::Leave { reader } if reader < readers.len() => drop(readers.swap_remove(reader)),
                Event::Enter { .. } | Event::Leave { .. } => {}
            }
        }
        readers.iter_mut().for_each(|reader| reader.check(&newest));
    }
}

/// Updates of each topic.
const UPDATES: u64 = 3_000;

/// Readers come and go while others publish; whoever stays is woken for the last update of each topic, however things fell together.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_while_readers_come_and_go() {
    let pubsub = lone();
    let room = Mailroom::new(&pubsub, 2);
    let done = Arc::new(AtomicBool::new(false));
    let (mut finite, mut passing) = (JoinSet::new(), JoinSet::new());
    for index in 0..16 {
        let mut mailbox = room.mailbox(8, None);
        let topics = [index % 4, (index + 1) % 4];
        topics.iter().for_each(|&number| follow(&mut mailbox, number, stamp(1, 0)));
        finite.spawn(stay(mailbox, topics));
    }
    for index in 0..4 {
        let (room, done) = (room.clone(), Arc::clone(&done));
        passing.spawn_blocking(move || {
            while !done.load(Ordering::Relaxed) {
                let mut mailbox = room.mailbox(8, None);
                for number in [index, (index + 2) % 4, 4] {
                    mailbox.subscribe(&topic(number)).unwrap().start(None);
                }
                take(&mut mailbox, Waker::noop());
            }
        });
    }
    for number in 0..4 {
        let pubsub = pubsub.clone();
        finite.spawn_blocking(move || {
            for seq in 1..=UPDATES {
                pubsub.broadcast(&[latest(&topic(number), Role::Update, stamp(1, seq))]);
            }
        });
    }
    finite.join_all().await;
    done.store(true, Ordering::Relaxed);
    passing.join_all().await;
}

/// Reads until the last update of each topic has come.
async fn stay(mailbox: Mailbox, topics: [usize; 2]) {
    let mut told = [0; 4];
    while topics.iter().any(|&number| told[number] < UPDATES) {
        let taken = tokio::time::timeout(Duration::from_secs(60), mailbox.next()).await.expect("a wake-up");
        for delivery in taken.unwrap() {
            let number: usize = delivery.message.topic[1..].parse().unwrap();
            told[number] += delivery.n;
            assert_eq!(told[number], delivery.message.stamp.unwrap().seq);
        }
    }
}
