"""How often does llama.cpp, continuing an answer from its token ids, write what it would have written anyway?

    python benchmarks/continuation_on_llama_cpp.py [--seconds 120] [--seed 1] [--source-flags="--prompt-batch 128"]

The engine alone, no gateway: the embedded default's two processes, started as `secondsource up` starts them.
Answers of 200 tokens at temperature 0 are made; each is cut at random tokens and continued through `/v1/completions`
with a mixed prompt: the template's text, then the ids (of a character of several tokens, the engine's own for its
text). Prompt caching is off, so that every continuation prefills
the whole of its prefix, as a process that has never seen it must. The counts are printed as JSON, with each
departure; rounds go on until the time is up, so that a slow machine gives smaller counts.
"""

import argparse
import asyncio
import datetime
import itertools
import json
import os
import platform
import random
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

from secondsource.embedded.default_fleet import SOURCES, choose_sizing
from secondsource.embedded.gguf import read_gguf
from secondsource.embedded.machine import available_memory, usable_cores
from secondsource.embedded.model import DEFAULT_MODEL, default_model, model_cache_directory
from secondsource.embedded.ports import choose_free_ports
from secondsource.embedded.supervisor import Supervisor, llamacpp_source

ANSWER_TOKENS = 200
PROMPTS = (  # eight, since so many streams are in flight at once
    "Tell me a long story about a lighthouse keeper.",
    "Explain how a refrigerator works, in detail.",
    "Write a long poem about the sea.",
    "Tell a story in which each of these occurs: " + ", ".join(map(str, range(1, 120))) + ".",  # a long prompt
    "Describe the history of the bicycle.",
    "Write a Python program that sorts a list in three ways, with comments.",
    "Écris une longue histoire en français sur un café à Paris.",
    "Write ten greetings for a birthday card with many emoji like 🎉 and 🎂.",
)


class Token(msgspec.Struct, frozen=True):
    """One event of an answer: its text, and what a prompt that ends with it must hold."""

    text: str
    prompt: int | str  # the token's id, or the text where one id does not stand for all of it


class Counts:
    """How many comparisons were equal, of how many, by name."""

    def __init__(self) -> None:
        self._equal: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def add(self, name: str, *, equal: bool) -> None:
        """Count one comparison."""
        self._equal[name] += equal
        self._all[name] += 1

    def table(self) -> dict[str, str]:
        """Return "n of N" by name."""
        return {name: f"{self._equal[name]} of {self._all[name]}" for name in self._all}


class Engine:
    """One llama.cpp server."""

    def __init__(self, port: int) -> None:
        # No kept-alive connections: the server closes them after a stream without saying so.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=limits)

    async def answer(self, prompt: str) -> list[Token]:
        """Return the undisturbed answer, token by token."""
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "stream": True,
            "logprobs": True,
            "top_logprobs": 1,
            "cache_prompt": False,
        }
        tokens = []
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    tokens += _tokens(json.loads(line.removeprefix("data: ")))
        return tokens

    async def go_on(self, prompt: str, tokens: Sequence[Token]) -> str:
        """Return what the engine writes after `tokens`, up to the answer's whole length."""
        ids = await self._ids([token.prompt for token in tokens])
        body = {
            "prompt": [await self._template(prompt), *ids],
            "max_tokens": ANSWER_TOKENS - len(ids),
            "temperature": 0,
            "cache_prompt": False,
            # As the undisturbed answer was: a whole one would end in U+FFFD where the limit cuts a character.
            "stream": True,
        }
        text = ""
        async with self._client.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
        return text

    async def _ids(self, mixed: list[int | str]) -> list[int]:
        """Return ids alone: with them the tokens can be counted, of which a character may have several."""
        body = {"content": mixed, "add_special": False, "parse_special": False}
        response = await self._client.post("/tokenize", json=body)
        ids: list[int] = response.raise_for_status().json()["tokens"]
        return ids

    async def _template(self, prompt: str) -> str:
        body = {"messages": [{"role": "user", "content": prompt}]}
        response = await self._client.post("/apply-template", json=body)
        template: str = response.raise_for_status().json()["prompt"]
        return template


def _tokens(event: dict[str, object]) -> list[Token]:
    """Return the tokens of one event of a chat stream."""
    tokens = []
    for choice in event["choices"]:  # type: ignore[attr-defined]
        for entry in (choice.get("logprobs") or {}).get("content") or []:
            # A character of several tokens comes as one entry with the last token's id; at temperature 0 the
            # top candidate is the token itself, and its own bytes betray it.
            whole = entry["top_logprobs"][0]["bytes"] == entry["bytes"]
            tokens.append(Token(entry["token"], entry["id"] if whole else entry["token"]))
    return tokens


def text_of(tokens: Sequence[Token]) -> str:
    """Return the text of an answer or of a part of one."""
    return "".join(token.text for token in tokens)


class Measurement:
    """One run: the undisturbed answers, then rounds of continuations on both engines until the time is up."""

    def __init__(self, engines: tuple[Engine, Engine], seconds: float, seed: int) -> None:
        self.counts = Counts()
        self.departures: list[dict[str, object]] = []
        self._engines = engines
        self._ends = time.monotonic() + seconds
        self._chance = random.Random(seed)  # noqa: S311 -- draws cut points

    async def run(self) -> None:
        """Measure all there is to measure."""
        first, second = self._engines
        halves = await asyncio.gather(_one_by_one(first, PROMPTS[:4]), _one_by_one(second, PROMPTS[4:]))
        alone = halves[0] + halves[1]
        together, again = await asyncio.gather(_at_once(first), _at_once(second))
        for one, other, third in zip(alone, together, again, strict=True):
            self.counts.add("undisturbed, 8 in flight, against alone", equal=text_of(other) == text_of(one))
            self.counts.add("undisturbed, 8 in flight, against alone", equal=text_of(third) == text_of(one))
            self.counts.add("undisturbed, 8 in flight, twice", equal=text_of(other) == text_of(third))
        # A process that runs one stream beside one that runs eight: each computes on a core of its own.
        await asyncio.gather(self._go_on_alone(second, alone), self._go_on_at_once(first, together))

    async def _go_on_alone(self, engine: Engine, answers: Sequence[Sequence[Token]]) -> None:
        while True:
            for prompt, tokens in zip(PROMPTS, answers, strict=True):
                if time.monotonic() > self._ends:
                    return
                await self._go_on(engine, "continued alone, cut from alone", prompt, tokens)

    async def _go_on_at_once(self, engine: Engine, answers: Sequence[Sequence[Token]]) -> None:
        name = "continued with 8 in flight, cut from 8 in flight"
        while time.monotonic() < self._ends:
            pairs = zip(PROMPTS, answers, strict=True)
            await asyncio.gather(*(self._go_on(engine, name, prompt, tokens) for prompt, tokens in pairs))

    async def _go_on(self, engine: Engine, name: str, prompt: str, tokens: Sequence[Token]) -> None:
        cut = self._chance.randrange(1, len(tokens))
        made, wanted = await engine.go_on(prompt, tokens[:cut]), text_of(tokens[cut:])
        self.counts.add(name, equal=made == wanted)
        if made != wanted:
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(made, wanted, strict=False)))
            departure = {"where": name, "prompt": prompt, "cut_after_tokens": cut, "same_characters": same}
            departure |= {"wanted": wanted[same : same + 20], "made": made[same : same + 20]}
            self.departures.append(departure)


async def _one_by_one(engine: Engine, prompts: Sequence[str]) -> list[list[Token]]:
    return [await engine.answer(prompt) for prompt in prompts]


async def _at_once(engine: Engine) -> list[list[Token]]:
    return list(await asyncio.gather(*(engine.answer(prompt) for prompt in PROMPTS)))


class _Teller:
    """Tells of a model being fetched."""

    def say(self, text: str) -> None:
        """Tell it."""
        sys.stderr.write(f"{text}\n")

    def on_bytes(self, done: int, total: int) -> None:
        """Tell how far it is."""
        sys.stderr.write(f"  {done} of {total} bytes\n")


async def run(seconds: float, seed: int, source_flags: Sequence[str]) -> dict[str, object]:
    """Start the engines, measure, and return what was found, where and when."""
    model = default_model(DEFAULT_MODEL, model_cache_directory(), environ=os.environ, listener=_Teller())
    sizing = choose_sizing(read_gguf(model), available_memory(), usable_cores())
    ports = choose_free_ports(len(SOURCES))
    with tempfile.TemporaryDirectory() as logs:
        sources = [
            llamacpp_source(name=name, port=port, model=model, alias="m", sizing=sizing, log=Path(logs) / f"{name}.log")
            for (name, _), port in zip(SOURCES, ports, strict=True)
        ]
        sources = [msgspec.structs.replace(source, command=(*source.command, *source_flags)) for source in sources]
        supervisor = Supervisor(sources, lambda change: None)
        await supervisor.start()
        try:
            measurement = Measurement((Engine(ports[0]), Engine(ports[1])), seconds, seed)
            await measurement.run()
        finally:
            await supervisor.stop()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()} {platform.release()}",
        "sizing": msgspec.to_builtins(sizing),
        "source_flags": shlex.join(source_flags),
        "seed": seed,
        "equal": measurement.counts.table(),
        "departures": measurement.departures,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="when no new round is begun (default 120)")
    parser.add_argument("--seed", type=int, default=1, help="of the cut points")
    parser.add_argument("--source-flags", default="", help="added to each process's command line, such as --threads 2")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.seconds, arguments.seed, shlex.split(arguments.source_flags)))
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
