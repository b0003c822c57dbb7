"""phxsocket: threads, protocol version 1, reconnects if its user asks it to, as its manual shows."""

import time
from threading import Thread

import phxsocket
from driver import lifecycle, read_command, tell
from phxsocket.channel import ChannelConnectError, ChannelEvents

RETRY_SECONDS = 0.05


class Driver:
    def __init__(self):
        self.client = None
        self.closing = False

    def run(self):
        while command := read_command():
            # Calls block until they are answered, and a test may have many under way.
            Thread(target=self.obey, args=[command], daemon=True).start()
        self.closing = True

    def obey(self, command):
        number = command["id"]
        try:
            getattr(self, command["do"])(number, command)
        except ChannelConnectError as error:
            tell(id=number, status="error", response=error.args[0])

    def connect(self, number, command):
        self.client = phxsocket.Client(command["url"] + "/websocket", command["params"])
        self.client.on_open = self.rejoin
        self.client.on_close = self.reconnect
        self.client.connect()
        tell(id=number, status="ok", response={})

    def rejoin(self, client):
        for channel in list(client.channels.values()):
            tell(topic=channel.topic, joined=channel.join())

    def reconnect(self, client):
        if not self.closing:
            time.sleep(RETRY_SECONDS)
            client.connect(blocking=False)

    def join(self, number, command):
        topic = command["topic"]
        channel = self.client.channel(topic, command["params"])
        channel.on_message = lambda _, event, payload: lifecycle(event) or tell(topic=topic, event=event, payload=payload)
        try:
            reply = channel.join()
        except ChannelConnectError:
            del self.client.channels[topic]
            raise
        tell(topic=topic, joined=reply)
        tell(id=number, status="ok", response=reply)

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
