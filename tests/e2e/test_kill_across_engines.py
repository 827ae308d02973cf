"""Kill either source of the embedded default, llama.cpp or our own engine: the answer passes from one to the other.

Two engines compute in another precision and order, so that at near-ties they choose otherwise, and no continued answer
is equal to the byte to an undisturbed one. What is demanded instead, of every part of every answer: it is exactly what
the engine that made it, asked alone, says after the parts before it; save at that engine's own near-ties, of which the
gap is reported and bounded. The parts joined are the whole answer, and the answer is complete.

SECONDSOURCE_KILLS, SECONDSOURCE_KILLS_PER_ROUND and SECONDSOURCE_SEED make a long run of it.
"""

import asyncio
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.e2e.engines_alone import Alone, alone_at
from tests.e2e.test_kill_a_source import NEAR_TIE_NATS, PER_ROUND, SEED, Answer, Embedded, Killer, embedded_default

TOKENS = 48
KILLS = int(os.environ.get("SECONDSOURCE_KILLS", "1"))
SPARE_ROUNDS = 8  # a kill may hit a source that makes nothing just then
# No emoji: a character of several tokens is one event, and the ledger's tokens would not say where a part ends.
PROMPTS = (
    "Tell me a long story about a lighthouse keeper.",
    "Explain how a refrigerator works, in detail.",
    "Write a letter to a friend about a journey by train.",
    "Describe the seasons of the year, one after another.",
    "Tell me about the history of bread.",
    "How is paper made? Answer at length.",
)


@dataclass(frozen=True)
class Part:
    """What one source made of an answer."""

    replica: str
    pieces_before: tuple[str, ...]  # a token each
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """Its own text."""
        return "".join(self.pieces)


async def parts_of(embedded: Embedded, answer: Answer) -> list[Part]:
    """Cut an answer into what each source made of it, as the ledger says."""
    for _ in range(100):
        told = (await embedded.client.get(f"{embedded.admin}/admin/requests/{answer.request_id}")).json()
        attempts = told.get("attempts", [])
        if attempts and attempts[-1]["outcome"] == "ok":
            break
        await asyncio.sleep(0.05)  # the ledger's thread is a moment behind
    parts, at = [], 0
    for attempt in attempts:
        if attempt["kind"] == "remake":
            parts, at = [], 0
        end = len(answer.pieces) if attempt is attempts[-1] else min(at + attempt["tokens_out"], len(answer.pieces))
        if end > at:
            parts.append(Part(attempt["replica"], tuple(answer.pieces[:at]), tuple(answer.pieces[at:end])))
        at = end
    assert "".join(part.text for part in parts) == answer.text
    return parts


@dataclass
class Judge:
    """What became of the answers."""

    engines: dict[str, Alone]
    verdicts: Counter[str] = field(default_factory=Counter)
    gaps: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def judge(self, place: str, question: str, answer: Answer, parts: list[Part]) -> None:
        """Judge one answer: complete, and each part what its engine says by itself."""
        where = f"{place}, {question!r}"
        if not (answer.done and answer.finish == ("length" if answer.tokens == TOKENS else "stop")):
            self.faults.append(f"{where}: not whole: {answer}")
        path = " then ".join(self.engines[part.replica].kind for part in parts)
        self.verdicts[f"made by {path}"] += 1
        for part in parts:
            engine = self.engines[part.replica]
            expected = await engine.goes_on(question, part.pieces_before, TOKENS)
            if expected.text.startswith(part.text):
                self.verdicts[f"{engine.kind}: as it says alone"] += 1
                continue
            gap = await engine.gap_where_they_part(question, part.pieces_before, part.pieces, expected)
            self.verdicts[f"{engine.kind}: parted at a near-tie"] += 1
            self.gaps.append(gap)
            if gap > NEAR_TIE_NATS:
                self.faults.append(f"{where}: {engine.kind} parts by {gap}:\n{part}\n{expected.text!r}")

    @property
    def crossed(self) -> bool:
        """Whether an answer passed from one engine to the other."""
        return any(" then " in verdict for verdict in self.verdicts)

    def report(self) -> str:
        """Return the counts, and how to see them again."""
        widest = f"widest near-tie {max(self.gaps, default=0):.3f} nats"
        return f"{dict(self.verdicts)}, {widest}, {len(self.faults)} faults; SECONDSOURCE_SEED={SEED}"


@pytest.mark.timeout(600 + 240 * (KILLS + SPARE_ROUNDS))
async def test_an_answer_passes_from_one_engine_to_the_other(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    random = Random(SEED)
    async with embedded_default(tmp_path, "engine") as embedded:
        sources = await embedded.sources()
        judge = Judge({url: await alone_at(url, embedded.client) for url in sources})
        assert sorted(engine.kind for engine in judge.engines.values()) == ["llamacpp", "secondsource-engine"]
        kills = trial = 0
        rounds = math.ceil(KILLS / PER_ROUND)
        while trial < rounds or (not judge.crossed and trial < rounds + SPARE_ROUNDS):
            killer = Killer([int(url.rpartition(":")[2]) for url in sources], random, TOKENS * len(PROMPTS))
            asked = (embedded.answer(prompt, killer.on_token, TOKENS) for prompt in PROMPTS)
            answers = dict(zip(PROMPTS, await asyncio.gather(*asked), strict=True))
            await embedded.until_all_serve()
            kills += len(killer.killed_at)
            place = f"trial {trial}, killed at tokens {killer.killed_at}"
            for question, answer in answers.items():
                await judge.judge(place, question, answer, await parts_of(embedded, answer))
            trial += 1
            print(f"{trial} rounds, {kills} kills: {judge.report()}", flush=True)
        assert kills >= KILLS * 0.5, "most of the kills did not happen"
        assert not judge.faults, f"{len(judge.faults)} faults\n" + "\n".join(judge.faults[:3])
        assert judge.crossed, "no answer passed from one to the other"
