"""phxsocket: threads, protocol version 1, reconnects if its user asks it to, as its manual shows."""

import time

import phxsocket
from driver import lifecycle, read_command, tell
from phxsocket.channel import ChannelEvents

RETRY_SECONDS = 0.05


class Driver:
    def __init__(self):
        self.client = None
        self.closing = False

    def run(self):
        while command := read_command():
            getattr(self, command["do"])(command["id"], command)
        self.closing = True


    def connect(self, number, command):
        self.client = phxsocket.Client(command["url"] + "/websocket", command["params"])
        self.client.on_open = self.rejoin
        self.client.on_close = self.reconnect
        self.client.connect()
        tell(id=number, status="ok", response={})

    def rejoin(self, client):
        for channel in list(client.channels.values()):
            self.send_join(channel)

    def send_join(self, channel, number=None):
        # The library's own join() hands the reply to another thread than messages, which may then overtake it.
        def answered(payload):
            status, response = payload["status"], payload["response"]
            if status == "ok":
                tell(topic=channel.topic, joined=response)
            elif number is not None:
                del self.client.channels[channel.topic]
            if number is not None:
                tell(id=number, status=status, response=response)

        channel.push(ChannelEvents.JOIN, channel.params, answered)

    def reconnect(self, client):
        if not self.closing:
            time.sleep(RETRY_SECONDS)
            client.connect(blocking=False)

    def join(self, number, command):
        topic = command["topic"]
        channel = self.client.channel(topic, command["params"])
        channel.on_message = lambda _, event, payload: lifecycle(event) or tell(topic=topic, event=event, payload=payload)
        self.send_join(channel, number)

    def push(self, number, command, event=None):
        def answered(payload):
            tell(id=number, status=payload["status"], response=payload["response"])

        self.client.channels[command["topic"]].push(event or command["event"], command.get("payload", {}), answered)

    def cast(self, number, command):
        self.client.channels[command["topic"]].push(command["event"], command["payload"])
        tell(id=number, status="ok", response={})

    def leave(self, number, command):
        # Its own leave() waits for an answer with a method that does not exist.
        self.push(number, command, ChannelEvents.LEAVE)


Driver().run()
