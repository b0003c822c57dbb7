"""supabase's realtime: asyncio, protocol version 1 with join_ref, topics `realtime:*`, joins again by itself."""

import asyncio

from driver import read_command, tell
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

# The library wants to know which events to listen for.
EVENTS = ("shout",)


class Driver:
    def __init__(self):
        self.client = None
        self.channels = {}

    async def run(self):
        while command := await asyncio.to_thread(read_command):
            await getattr(self, command["do"])(command)
            tell(id=command["id"], status="ok", response={})
        await self.client.close()

    async def connect(self, command):
        self.client = AsyncRealtimeClient(command["url"], "anon", initial_backoff=0.05, max_retries=100)
        await self.client.connect()

    async def join(self, command):
        topic = command["topic"]
        channel = self.client.channel(topic.removeprefix("realtime:"), {"config": {"broadcast": {"ack": False, "self": False}}})
        for event in EVENTS:
            channel.on_broadcast(event, lambda payload: tell(topic=topic, event=payload["event"], payload=payload["payload"]))

        def changed(state, _):
            if state == RealtimeSubscribeStates.SUBSCRIBED:
                tell(topic=topic, joined={})

        self.channels[topic] = channel
        await channel.subscribe(changed)

    async def push(self, command):
        await self.channels[command["topic"]].send_broadcast(command["event"], command["payload"])


asyncio.run(Driver().run())
