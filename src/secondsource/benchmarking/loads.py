"""The two load clients: wrk for plain requests, ours for streams. Both run on the core that is not the gateway's."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from secondsource.benchmarking.processes import on_core
from secondsource.benchmarking.records import Load, Row
from secondsource.benchmarking.tools import compiled, find_tool
from secondsource.core.errors import SecondsourceError

LOAD_CORE = 1
MODEL = "m"
PATH = "/v1/chat/completions"
_PATIENCE_S = 60.0

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = {body}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class PlainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk says of its window."""

    requests: int
    duration_us: int
    p50_us: float
    p99_us: float
    failed: int


class StreamResult(msgspec.Struct, frozen=True, kw_only=True):
    """What our client says of its window; -1 is a time that there was none of."""

    seconds: float
    streams: int
    events: int
    refused: int
    disordered: int
    cut: int
    unconnected: int
    first_byte_us_p50: float
    first_byte_us_p99: float
    delay_us_p50: float
    delay_us_p99: float
    example: str


def plain_body(prompt_bytes: int) -> bytes:
    """Return a request that is not streamed, with a prompt of this many bytes."""
    prompt = ("Tell me of second sources. " * (prompt_bytes // 27 + 1))[:prompt_bytes]
    return json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 16}, separators=(",", ":")
    ).encode("ascii")


def run_plain(row: Row, port: int, key: str, scratch: Path, on_window: Callable[[], None]) -> PlainResult:
    """Warm up, then load `port` for the row's window, and return what came of it; `on_window` marks its start."""
    script = scratch / "plain.lua"
    body = json.dumps(plain_body(row.prompt_bytes).decode("ascii"))  # a JSON string of ASCII is a Lua string too
    script.write_text(_SCRIPT.format(key=key, body=body), "ascii")
    assert row.load is Load.PLAIN
    _wrk(row, port, script, row.warm_s)
    on_window()
    return parse_wrk(_wrk(row, port, script, row.window_s))


def _wrk(row: Row, port: int, script: Path, seconds: float) -> str:
    address = f"http://127.0.0.1:{port}{PATH}"
    arguments = ["-t1", f"-c{row.connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script), address]
    command = on_core(LOAD_CORE, [find_tool("wrk"), *arguments])
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _PATIENCE_S, check=False)
    if done.returncode:
        raise SecondsourceError(f"wrk ended with status {done.returncode}: {done.stderr.strip()[:300]}")
    return done.stdout


def parse_wrk(output: str) -> PlainResult:
    """Return what our script made wrk print last."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            return msgspec.json.decode(line, type=PlainResult)
    raise SecondsourceError(f"wrk printed no result: {output.strip()[-300:]}")


def run_streams(
    row: Row, port: int, key: str, on_window: Callable[[], None], on_end: Callable[[], None]
) -> StreamResult:
    """Load `port` with the row's streams; `on_window` and `on_end` mark the measured window."""
    shape = (row.connections, row.events, row.every_us, row.warm_s, row.window_s)
    command = on_core(LOAD_CORE, [compiled("client"), str(port), *map(str, shape), key])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            for line in client.stdout:
                if line == "window\n":
                    on_window()
                elif line == "end\n":
                    on_end()
                else:
                    return msgspec.json.decode(line, type=StreamResult)
        finally:
            client.terminate()
    raise SecondsourceError(f"our load client ended with status {client.returncode} and without a result")
