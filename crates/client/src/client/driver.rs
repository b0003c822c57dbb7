//! The one task of a client: it carries out what the machine decides.

use std::{
    collections::{HashMap, VecDeque},
    future::{self, Future},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Answer, CallError, Link};
use crate::{
    Disconnect, Event, Options, Params,
    machine::{Action, CallId, Machine, Settings},
    transport::{self, Socket},
    wire,
};

/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that lived shorter than this counts as a failed attempt: a server that accepts and closes at once is not hammered.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What the handles ask for.
#[derive(Debug)]
pub(super) enum Command {
    Join { topic: String, params: Params, events: mpsc::Sender<Event>, answer: oneshot::Sender<Answer> },
    Push { topic: String, event: String, payload: Value, answer: oneshot::Sender<Answer> },
    Leave { topic: String },
}

#[derive(Debug)]
struct Caller {
    answer: oneshot::Sender<Answer>,
    /// The topic that is no longer consumed if the call fails.
    joins: Option<String>,
}

pub(super) struct Driver {
    options: Options,
    machine: Machine,
    random: fastrand::Rng,
    commands: mpsc::Receiver<Command>,
    link: watch::Sender<Link>,
    cancel: CancellationToken,
    last_call: u64,
    callers: HashMap<CallId, Caller>,
    consumers: HashMap<String, mpsc::Sender<Event>>,
    /// Texts to send, in order.
    outbox: VecDeque<String>,
    /// Events whose consumer had no room. While there is one, the socket is not read: it holds what one message and one disconnect made.
    undelivered: VecDeque<(String, Event)>,
}

impl Driver {
    pub(super) fn new(
        options: Options,
        commands: mpsc::Receiver<Command>,
        link: watch::Sender<Link>,
        cancel: CancellationToken,
    ) -> Self {
        let rejoin = options.reconnect.unwrap_or_default();
        let settings = Settings { heartbeat: options.heartbeat, timeout: options.timeout, rejoin };
        Self {
            machine: Machine::new(settings, fastrand::Rng::new()),
            random: fastrand::Rng::new(),
            options,
            commands,
            link,
            cancel,
            last_call: 0,
            callers: HashMap::new(),
            consumers: HashMap::new(),
            outbox: VecDeque::new(),
            undelivered: VecDeque::new(),
        }
    }

    /// Serves the connection, and those after it, until there is no reason to open another.
    pub(super) async fn run(mut self, socket: Socket) {
        let mut socket = socket;
        let mut failures = 0;
        loop {
            let opened_at = now();
            self.machine.connected(opened_at);
            let why = self.serve(socket).await;
            debug!(%why, "connection ended");
            self.machine.disconnected(&why);
            self.outbox.clear();
            if now().duration_since(opened_at) > STABLE_AFTER {
                failures = 0;
            }
            match self.reopen(why, &mut failures).await {
                Ok(next) => socket = next,
                Err(why) => {
                    self.machine.ended(&why);
                    self.perform();
                    self.link.send_replace(Link::Closed(why));
                    return;
                }
            }
            self.link.send_replace(Link::Up);
        }
    }

    /// Waits and tries until there is a connection; `Err` when there will be none.
    async fn reopen(&mut self, mut why: Disconnect, failures: &mut u32) -> Result<Socket, Disconnect> {
        let Some(backoff) = self.options.reconnect.filter(|_| why != Disconnect::Local) else { return Err(why) };
        loop {
            let retry_in = backoff.delay(*failures, &mut self.random);
            self.link.send_replace(Link::Down { why: why.clone(), attempt: *failures, retry_in });
            *failures = failures.saturating_add(1);
            let options = self.options.clone();
            let attempt = async move {
                tokio::time::sleep(retry_in).await;
                transport::open(&options).await
            };
            match self.offline(Box::pin(attempt)).await {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) if error.is_final() => return Err(Disconnect::Refused(error.to_string())),
                Some(Err(error)) => why = Disconnect::Lost(error.to_string()),
                None => return Err(Disconnect::Local),
            }
        }
    }

    /// Goes on answering the handles while `attempt` runs; `None` when they are gone.
    async fn offline<T>(&mut self, mut attempt: impl Future<Output = T> + Unpin) -> Option<T> {
        loop {
            self.perform();
            let (alarm, room) = (self.alarm(), self.room());
            tokio::select! {
                () = self.cancel.cancelled() => return None,
                result = &mut attempt => return Some(result),
                command = self.commands.recv() => self.obey(command?),
                () = alarm => self.machine.tick(now(), false),
                () = room => self.deliver_waiting(),
            }
        }
    }

    /// Serves one connection until it ends. The socket is dropped with it.
    async fn serve(&mut self, mut socket: Socket) -> Disconnect {
        loop {
            if let Some(why) = self.perform() {
                return why;
            }
            if let Err(why) = self.flush(&mut socket).await {
                return why;
            }
            let reading = self.undelivered.is_empty();
            let (alarm, room) = (self.alarm(), self.room());
            tokio::select! {
                () = self.cancel.cancelled() => {
                    say_goodbye(socket).await;
                    return Disconnect::Local;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return Disconnect::Local,
                },
                () = alarm => self.machine.tick(now(), reading),
                () = room => self.deliver_waiting(),
                frame = socket.next(), if reading => {
                    if let Err(why) = self.receive(frame) {
                        // The library has an answer to the server's close frame ready, if that was the reason.
                        let _ = timeout(CLOSE_TIMEOUT, socket.flush()).await;
                        return why;
                    }
                }
            }
        }
    }

    fn receive(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), Disconnect> {
        let message = match frame {
            Some(Ok(Message::Text(text))) => wire::decode_text(text.as_str()),
            Some(Ok(Message::Binary(data))) => wire::decode_binary(&data),
            Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
            // A ping is answered by the library, a raw frame is only ever written.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Err(error)) => return Err(Disconnect::Lost(error.to_string())),
            None => return Err(Disconnect::Lost("it ended without a close frame".to_owned())),
        };
        let message = message.map_err(|error| Disconnect::Garbled(error.to_string()))?;
        self.machine.received(message, now());
        Ok(())
    }

    async fn flush(&mut self, socket: &mut Socket) -> Result<(), Disconnect> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let send = async {
            while let Some(text) = self.outbox.pop_front() {
                socket.feed(Message::text(text)).await?;
            }
            socket.flush().await
        };
        match timeout(self.options.timeout, send).await {
            Ok(sent) => sent.map_err(|error| Disconnect::Lost(error.to_string())),
            Err(_) => Err(Disconnect::Lost("the server does not read".to_owned())),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join { topic, params, events, answer } => self.obey_join(topic, params, events, answer),
            Command::Push { topic, event, payload, answer } => {
                let call = self.caller(answer, None);
                self.machine.push(call, &topic, &event, &payload, now());
            }
            Command::Leave { topic } => {
                self.consumers.remove(&topic);
                self.undelivered.retain(|(waiting, _)| *waiting != topic);
                self.machine.leave(&topic);
            }
        }
    }

    fn obey_join(
        &mut self,
        topic: String,
        params: Params,
        events: mpsc::Sender<Event>,
        answer: oneshot::Sender<Answer>,
    ) {
        match self.consumers.get(&topic) {
            Some(consumer) if consumer.is_closed() => self.obey(Command::Leave { topic: topic.clone() }),
            Some(_) => {
                let _ = answer.send(Err(CallError::AlreadyJoined));
                return;
            }
            None => {}
        }
        self.consumers.insert(topic.clone(), events);
        let call = self.caller(answer, Some(topic.clone()));
        self.machine.join(call, &topic, params, now());
    }

    fn caller(&mut self, answer: oneshot::Sender<Answer>, joins: Option<String>) -> CallId {
        self.last_call += 1;
        let call = CallId(self.last_call);
        self.callers.insert(call, Caller { answer, joins });
        call
    }

    /// Carries out what the machine has decided, as far as that needs no waiting.
    fn perform(&mut self) -> Option<Disconnect> {
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Send(text) => self.outbox.push_back(text),
                Action::Deliver(topic, event) => self.deliver(topic, event),
                Action::Answer(call, answer) => self.answer(call, answer),
                Action::Drop(why) => return Some(why),
            }
        }
        None
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        let Some(caller) = self.callers.remove(&call) else { return };
        let failed = answer.is_err();
        // A caller that has given up its join has no channel to read from: the topic is left, as if it had been dropped.
        let unheard = caller.answer.send(answer).is_err();
        if let Some(topic) = caller.joins.filter(|_| failed || unheard) {
            self.consumers.remove(&topic);
            self.machine.leave(&topic);
        }
    }

    fn deliver(&mut self, topic: String, event: Event) {
        if !self.undelivered.is_empty() {
            return self.undelivered.push_back((topic, event));
        }
        let last = event == Event::Ended;
        let Some(consumer) = self.consumers.get(&topic) else { return };
        match consumer.try_send(event) {
            Ok(()) if last => drop(self.consumers.remove(&topic)),
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.undelivered.push_back((topic, event)),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.consumers.remove(&topic);
                self.machine.leave(&topic);
            }
        }
    }

    /// Hands out waiting events until one has to wait again.
    fn deliver_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.undelivered);
        for (topic, event) in waiting {
            self.deliver(topic, event);
        }
    }

    /// Ends when the first waiting event can be delivered; never, if none waits.
    fn room(&self) -> impl Future<Output = ()> + use<> {
        let waiting = self.undelivered.front().map(|(topic, _)| self.consumers.get(topic).cloned());
        async move {
            match waiting {
                Some(Some(consumer)) => drop(consumer.reserve().await),
                Some(None) => {}
                None => future::pending().await,
            }
        }
    }

    fn alarm(&self) -> impl Future<Output = ()> + use<> {
        let alarm = self.machine.alarm();
        async move {
            match alarm {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        }
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn closed(frame: Option<CloseFrame>) -> Disconnect {
    match frame {
        Some(frame) => Disconnect::Closed { code: frame.code.into(), reason: frame.reason.as_str().to_owned() },
        None => Disconnect::Closed { code: 1005, reason: String::new() },
    }
}

async fn say_goodbye(mut socket: Socket) {
    let goodbye = async {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        socket.close(Some(frame)).await?;
        while let Some(frame) = socket.next().await {
            frame?;
        }
        Ok::<_, Error>(())
    };
    if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
        debug!("the server did not answer the goodbye");
    }
}
