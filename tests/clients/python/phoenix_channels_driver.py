"""phoenix-channels-python-client: asyncio, listens only, joins again by itself.

It speaks protocol version 1 here: with version 2 it drops every message whose join_ref is not its own, and so every
broadcast, from Phoenix as well, since broadcasts carry none.
"""

import asyncio
from urllib.parse import urlencode

from driver import lifecycle, read_command, tell
from phoenix_channels_python_client import PHXChannelsClient, PhoenixChannelsProtocolVersion, ReconnectPolicy
from phoenix_channels_python_client.exceptions import PHXTopicError

AT_ONCE = ReconnectPolicy(
    base_delay_s=0.05,
    max_delay_s=0.2,
    service_restart_min_delay_s=0.05,
    service_restart_max_delay_s=0.2,
    try_again_later_min_delay_s=0.05,
    try_again_later_max_delay_s=0.2,
    rapid_first_min_delay_s=0,
    rapid_second_min_delay_s=0,
    rapid_cooldown_base_s=0,
    rapid_cooldown_step_s=0,
    rapid_suppress_disconnect_count=0,
)


class Driver:
    def __init__(self):
        self.client = None

    async def run(self):
        tasks = set()
        while command := await asyncio.to_thread(read_command):
            task = asyncio.create_task(self.obey(command))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await self.client.__aexit__()

    async def obey(self, command):
        number = command["id"]
        try:
            await getattr(self, command["do"])(command)
        except PHXTopicError as error:
            tell(id=number, status="error", response={"reason": str(error)})
        else:
            tell(id=number, status="ok", response={})

    async def connect(self, command):
        self.client = PHXChannelsClient(
            f"{command['url']}/websocket?{urlencode(command['params'])}",
            "unused",
            protocol_version=PhoenixChannelsProtocolVersion.V1,
            reconnect_policy=AT_ONCE,
            on_reconnect=self.rejoined,
        )
        await self.client.__aenter__()

    async def rejoined(self):
        for topic in self.client.get_current_subscriptions():
            tell(topic=topic, joined={})

    async def join(self, command):
        topic = command["topic"]

        async def heard(message):
            event = str(message.event)
            if not lifecycle(event):
                tell(topic=topic, event=event, payload=message.payload)

        await self.client.subscribe_to_topic(topic, heard)
        tell(topic=topic, joined={})

    async def leave(self, command):
        await self.client.unsubscribe_from_topic(command["topic"])


asyncio.run(Driver().run())
