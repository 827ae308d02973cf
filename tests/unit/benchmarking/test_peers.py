import hashlib
import json
from pathlib import Path

import pytest

from secondsource.benchmarking import peers
from secondsource.benchmarking.peers import KEY, PEERS, Peer, Place, environment_of, fleet_file, install, require
from secondsource.core.errors import SecondsourceError
from secondsource.core.fleet import Continuation
from secondsource.core.fleet_file import parse_fleet


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        port=20001,
        spare_port=20002,
        directory=tmp_path,
        replicas=("http://127.0.0.1:20003", "http://127.0.0.1:20004"),
    )


def test_ours_is_measured_with_everything_on(place: Place) -> None:
    fleet = parse_fleet(fleet_file(place), "fleet.toml")
    assert [key.sha256 for key in fleet.keys] == [hashlib.sha256(KEY.encode()).hexdigest()]
    assert [pool.replicas[0] for pool in fleet.pools] == list(place.replicas)
    assert {pool.continuation for pool in fleet.pools} == {Continuation.PREFILL}
    assert (fleet.gateway.port, fleet.admin.port) == (20001, 20002)
    assert Path(fleet.state_dir) == place.directory / "state"


@pytest.mark.parametrize("peer", [one for one in PEERS if one.name != "nginx"], ids=lambda one: one.name)
def test_every_peer_is_told_its_port_and_both_replicas(peer: Peer, place: Place) -> None:
    start = peer.start(place)
    written = "".join(path.read_text() for path in place.directory.iterdir())
    told = " ".join(start.command) + written
    for part in (str(place.port), *place.replicas):
        assert part in told


def test_nginx_is_told_its_port_and_both_replicas(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_tool", lambda name: f"/usr/sbin/{name}")
    [nginx] = [one for one in PEERS if one.name == "nginx"]
    nginx.start(place)
    config = (place.directory / "nginx.conf").read_text()
    assert config.count("{") == config.count("}")
    for part in ("listen 127.0.0.1:20001", "server 127.0.0.1:20003;", "server 127.0.0.1:20004;", "proxy_buffering off"):
        assert part in config


def test_litellm_asks_the_network_for_nothing(place: Place) -> None:
    [litellm] = [one for one in PEERS if one.name == "litellm"]
    start = litellm.start(place)
    assert start.environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert len(json.loads((place.directory / "litellm.yaml").read_text())["model_list"]) == 2


def test_every_peer_is_pinned_to_one_version_in_its_own_environment() -> None:
    packages = [peer.package for peer in PEERS if peer.package is not None]
    assert len(packages) == 3
    assert all("==" in package for package in packages)
    assert len({environment_of(package) for package in packages}) == 3


def test_what_cannot_be_installed_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(peers.sys, "executable", "/bin/false")
    with pytest.raises(SecondsourceError, match="peer==1 cannot be installed"):
        install("peer==1")
    assert not (environment_of("peer==1") / "complete").exists()
    [baseline] = [one for one in PEERS if one.name == peers.BASELINE]
    assert "cannot be installed" in (require(baseline) or "")
