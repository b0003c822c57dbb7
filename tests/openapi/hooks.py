"""What Schemathesis cannot know of this API by itself: how lines of JSON are written."""

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonl")
def lines_of_json(context, value):
    """The document describes lines as a text: it is sent as it is."""
    return {"data": value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")}
