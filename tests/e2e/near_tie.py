"""Asks the engine itself whether two answers part at a near-tie: where two tokens were as good as equal to it.

Decoding one token, decoding eight streams at once and prefilling a prompt run different arithmetic in llama.cpp, so
that at temperature 0 the greater of two nearly equal logits may be either. A seam that lost, repeated or changed
something parts elsewhere: at a token to which the engine gives little.
"""

from dataclasses import dataclass
from typing import Any

import httpx

CANDIDATES = 20


@dataclass(frozen=True)
class Parting:
    """Where two answers part, and how much better the engine likes its favourite there, in nats."""

    character: int
    gap: float


async def parting(engine: str, messages: list[dict[str, str]], one: str, other: str) -> Parting | None:
    """Return where two texts part, or None when they do not; `gap` is infinite for a token not thought of."""
    if one == other:
        return None
    character = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    async with httpx.AsyncClient(base_url=engine, timeout=120, trust_env=False) as client:

        async def post(path: str, body: dict[str, Any]) -> Any:
            return (await client.post(path, json=body)).raise_for_status().json()

        first, second = [(await post("/tokenize", {"content": text}))["tokens"] for text in (one, other)]
        at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
        if at is None:
            return Parting(character, float("inf"))  # one is the beginning of the other: something is missing
        template = (await post("/apply-template", {"messages": messages}))["prompt"]
        body = {
            "prompt": [template, *first[:at]],
            "n_predict": 1,
            "temperature": 0,
            "n_probs": CANDIDATES,
            "cache_prompt": False,
        }
        top = (await post("/completion", body))["completion_probabilities"][0]["top_logprobs"]
        logprobs = {entry["id"]: entry["logprob"] for entry in top}
        best = max(logprobs.values())
        return Parting(character, max(best - logprobs.get(tokens[at], -float("inf")) for tokens in (first, second)))
