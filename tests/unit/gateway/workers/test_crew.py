"""The crew, without processes: who accepts whose clients, and what becomes of a worker that says nothing."""

import time
from typing import Any

from secondsource.gateway.workers.crew import SILENT_S, Crew
from secondsource.gateway.workers.messages import Adopt
from secondsource.gateway.workers.post import Post


class Heard:
    """What was said to each worker, and to the person who watches."""

    def __init__(self, workers: int) -> None:
        self.told: list[tuple[int, Any]] = []
        self.said: list[str] = []
        self.crew = Crew(workers, 0, lambda post, message: None, lambda post: None, lambda post: None, self.said.append)
        for post in self.crew.posts:
            post.say = lambda message, post=post: self.told.append((post.number, message))  # type: ignore[method-assign,misc]
        for post in self.crew.posts:
            self.crew.serves(post)
        self.told.clear()

    def post(self, number: int) -> Post:
        return self.crew.posts[number - 1]

    def news(self) -> list[tuple[int, Any]]:
        told, self.told = self.told, []
        return told


def test_another_accepts_for_a_worker_that_is_gone_until_it_is_back() -> None:
    heard = Heard(3)
    heard.crew.leaves(heard.post(2))
    assert heard.news() == [(1, Adopt(worker=2, adopted=True))]
    heard.crew.serves(heard.post(2))
    assert heard.news() == [(1, Adopt(worker=2, adopted=False))]


def test_whoever_accepts_for_another_and_is_gone_hands_on_both() -> None:
    heard = Heard(3)
    heard.crew.leaves(heard.post(2))
    heard.news()
    heard.crew.leaves(heard.post(1))
    assert heard.news() == [(3, Adopt(worker=1, adopted=True)), (3, Adopt(worker=2, adopted=True))]


def test_where_nobody_was_left_the_first_who_is_back_accepts_for_all() -> None:
    heard = Heard(2)
    heard.crew.leaves(heard.post(1))
    heard.crew.leaves(heard.post(2))
    heard.news()
    heard.crew.serves(heard.post(2))
    assert heard.news() == [(2, Adopt(worker=1, adopted=True))]
    heard.crew.serves(heard.post(1))
    assert heard.news() == [(2, Adopt(worker=1, adopted=False))]


def test_a_silent_worker_is_killed(monkeypatch: Any) -> None:
    heard, killed = Heard(2), []
    for post in heard.crew.posts:
        post.heard_at = time.monotonic()
        monkeypatch.setattr(post, "kill", lambda post=post: killed.append(post.number))
    heard.post(2).heard_at -= SILENT_S + 1
    heard.crew.kill_silent()
    assert killed == [2]
    assert "Worker 2 has been silent" in heard.said[0]
