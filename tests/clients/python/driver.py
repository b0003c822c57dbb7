"""What the Python drivers share: lines of JSON in and out, as adapters/driver.mjs describes them."""

import json
import sys
import threading

_lock = threading.Lock()


def tell(**message):
    """Says one thing to the test, whole, whichever thread it comes from."""
    with _lock:
        print(json.dumps(message), flush=True)


def read_command():
    """The next command, or None at the end."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def lifecycle(event):
    """Whether the protocol itself uses an event, so that no application hears of it."""
    return event.startswith("phx_") or event.startswith("chan_reply_")
