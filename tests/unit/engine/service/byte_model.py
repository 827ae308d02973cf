"""A model small enough to reason about: its tokens are bytes, its logits a hash of all before."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import jax
import jax.numpy as jnp
import numpy as np

from secondsource.core.errors import InputError
from secondsource.engine.service.hosting import Hosted, host
from secondsource.engine.service.stepping import Stepper

END = 256
VOCABULARY = 257
LETTERS = np.array([*range(ord("a"), ord("z") + 1), ord(" ")])


def logits_after(history: Sequence[int]) -> np.ndarray:
    """Letters and spaces, each history with favourites of its own."""
    logits = np.full(VOCABULARY, -30.0, np.float32)
    generator = np.random.default_rng([len(history), *history])
    logits[LETTERS] = generator.normal(0, 2, len(LETTERS))
    return logits


class ByteTokenizer:
    """A token is a byte; one more ends an answer."""

    vocabulary = VOCABULARY
    beginning_of_sequence = None
    adds_beginning = False
    ends = frozenset({END})

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, tokens)).decode()

    def token_bytes(self, token: int) -> bytes:
        return b"" if token == END else bytes([token])

    def token_text(self, token: int) -> str:
        return "<end>" if token == END else chr(token)


class PlainTemplate:
    """Messages one after another."""

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        if messages[0]["role"] == "nobody":
            raise InputError("the template knows no role 'nobody'")
        text = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return text if continue_final_message else text + "\nassistant: " * add_generation_prompt


class ByteRunner:
    """Reads bytes; with `gate`, takes a step only when told to."""

    def __init__(self, slots: int) -> None:
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.steps = 0
        self.fails_at = -1

    def prefill(self, slot: int, start: int, tokens: Sequence[int]) -> jax.Array:
        self._step()
        self.held[slot] = [*self.held[slot][:start], *tokens]
        return jnp.asarray(logits_after(self.held[slot]))[None]

    def decode(self, tokens: jax.Array, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        self._step()
        read = np.asarray(tokens)
        for slot in np.flatnonzero(active):
            assert positions[slot] == len(self.held[slot])
            self.held[slot].append(int(read[slot]))
        return jnp.asarray(np.stack([logits_after(held) for held in self.held]))

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("the chip is gone")


def answer_to(prompt: bytes, tokens: int) -> bytes:
    """What the likeliest answer to a prompt is."""
    history = list(prompt)
    for _ in range(tokens):
        history.append(int(logits_after(history).argmax()))
    return bytes(history[len(prompt) :])


@asynccontextmanager
async def hosted(runner: ByteRunner, *, slots: int = 2, context: int = 256) -> AsyncIterator[str]:
    """Serve the byte model; gives the address."""
    stepper = Stepper(runner, slots=slots, vocabulary=VOCABULARY, chunk_tokens=16)
    what = Hosted(
        model="bytes",
        stepper=stepper,
        slots=slots,
        context_tokens=context,
        tokenizer=ByteTokenizer(),
        template=PlainTemplate(),
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(host(what, ready.set_result, stop))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ready.result()
    finally:
        stop.set()
        await running
