"""How a wall makes images: it takes its time, shows partial ones where it streams, and may die half way."""

import json
from typing import Any

from tests.faults import connection as wire
from tests.faults.connection import Connection
from tests.faults.fault import Kind
from tests.faults.misbehave import Seen

PNG = "iVBORw0KGgo="
FIRST_CREATED = 1760000000  # plus the number of the request: tells generations apart
DIES = {Kind.CUT, Kind.CUT_RST}


async def paint(connection: Connection, seen: Seen, seconds: float) -> None:
    """Answer a request for images after `seconds`."""
    count = int(seen.body.get("n") or 1)
    seen.status = 200
    if seen.body.get("stream"):
        await _stream(connection, seen, seconds, count)
        return
    await connection.hold(seconds / 2)
    if seen.fault.kind in DIES:
        connection.reset()
        return
    await connection.hold(seconds / 2)
    seen.finished = True
    image = {"b64_json": PNG, "revised_prompt": None}
    answer: dict[str, Any] = {"created": FIRST_CREATED + seen.number, "data": [image] * count}
    if "size" in seen.body:
        answer["size"] = seen.body["size"]
    await connection.write(wire.plain(200, json.dumps(answer).encode()))


async def _stream(connection: Connection, seen: Seen, seconds: float, count: int) -> None:
    partials = int(seen.body.get("partial_images") or 2)
    await connection.write(wire.STREAM_HEAD)
    for index in range(partials):
        await connection.hold(seconds / (partials + 1))
        if index and seen.fault.kind in DIES:
            connection.reset()
            return
        await connection.write(_event(seen, "image_generation.partial_image", partial_image_index=index))
    await connection.hold(seconds / (partials + 1))
    seen.finished = True
    usage = {"input_tokens": 11, "output_tokens": 22, "total_tokens": 33}
    for _ in range(count):
        await connection.write(_event(seen, "image_generation.completed", usage=usage))
    await connection.write(wire.LAST_CHUNK)


def _event(seen: Seen, kind: str, **more: object) -> bytes:
    event = {"type": kind, "b64_json": PNG, "created_at": FIRST_CREATED + seen.number, "size": "1024x1024", **more}
    return wire.chunk(b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(event).encode()))
