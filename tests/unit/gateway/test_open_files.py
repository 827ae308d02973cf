"""Clients, the replicas that answer them, and the pump's copies: all of them together have the files they need."""

import resource

import pytest

from secondsource.gateway.open_files import KEPT_FREE, most_clients, most_pumped


@pytest.mark.parametrize("files", [200, 256, 1024, 20_000, 1_048_576, resource.RLIM_INFINITY])
def test_everybody_at_once_leaves_some_free(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    needed = 2 * most_clients() + 2 * most_pumped()
    assert most_pumped() > 0
    assert most_clients() > 2 * most_pumped() - 3
    assert files == resource.RLIM_INFINITY or needed <= files - KEPT_FREE
