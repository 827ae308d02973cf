"""`secondsource top` over a listener that the test plays."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from secondsource.cli.main import main
from secondsource.cli.top_source import Source
from secondsource.console.incidents import Incident, IncidentKind
from secondsource.console.now import look
from secondsource.console.window import Window
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet, Lane, Pool, Supplier
from secondsource.gateway.admin.application import Shown
from secondsource.gateway.books.books import Books
from secondsource.gateway.meter import Meter
from secondsource.policy.views import FlowView

KEY = "sk-ss-admin"


async def nobody(_: str) -> None:
    return None


async def plug(_supplier: str, _plugged: bool) -> int:
    return 0


@pytest.fixture
def now_json(tmp_path: Path) -> bytes:
    pool = Pool(name="a-pool", supplier="azure", chip="h100", model="chat", upstream_model="m", replicas=("http://a",))
    fleet = Fleet(suppliers=(Supplier(name="azure", max_share=0.6),), pools=(pool,), lanes=(Lane(name="paid"),))
    shown = Shown(
        fleet=fleet,
        meter=Meter(("chat",), ("paid",)),
        books=Books(tmp_path),
        replicas=list,
        running=nobody,
        flows=lambda: [FlowView(lane="paid", pool="a-pool", requests=3), FlowView(lane="paid", pool=None, requests=2)],
        plug=plug,
        gateway_url="http://127.0.0.1:1",
        admin_url="http://127.0.0.1:2",
    )
    now = look(shown, Window(fleet.lanes))
    incident = Incident(
        kind=IncidentKind.FAILOVER,
        reason="connect_failed",
        lane="paid",
        supplier="azure",
        at=datetime.now(UTC),
        count=7,
        request_ids=["req_1"],
    )
    return msgspec.json.encode(msgspec.structs.replace(now, incidents=[incident]))


@pytest.fixture
def url(now_json: bytes) -> Iterator[str]:
    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["authorization"] == f"Bearer {KEY}"
            said = now_json if known else b'{"error":{"message":"the admin listener needs its key"}}'
            if known and self.path.endswith("/events"):
                said = b"retry: 1000\n\nevent: now\ndata: " + said + b"\n\n" + b"event: now\ndata: " + said + b"\n\n"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_is_told_once_as_tables_and_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SECONDSOURCE_ADMIN_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["top", "--once", "--url", url]) == 0
    said = capsys.readouterr().out
    for words in ("3 in flight", "2 waiting", "a-pool", "azure", "60.0%", "failover ×7", "connect failed", "req_1"):
        assert words in said
    assert main(["top", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["running"] == 3


def test_events_are_read_one_after_another(url: str, now_json: bytes) -> None:
    assert list(Source(url, KEY).events()) == [now_json, now_json]


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("SECONDSOURCE_ADMIN_KEY", raising=False)
    assert main(["top", "--once", "--url", url]) == 2
    assert "needs its key" in capsys.readouterr().err
    assert main(["top", "--once", "--url", "http://127.0.0.1:1"]) == 2
    assert "secondsource up" in capsys.readouterr().err
    with pytest.raises(InputError, match="expected the admin listener's address"):
        Source("127.0.0.1:8081", None)
