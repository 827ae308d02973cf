"""Engines asked directly, without a gateway: how each goes on with a text, and how it likes one token or another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

CANDIDATES = 20


@dataclass(frozen=True)
class Alone:
    """One replica, asked past the gateway; `kind` is how it names itself."""

    url: str
    kind: str
    client: httpx.AsyncClient

    async def goes_on(self, question: str, pieces: Sequence[str], tokens: int) -> str:
        """Return what it says after the first part of an answer, at temperature 0.

        Each piece is the text of one token and is made a token again by itself: all together might be cut otherwise
        than they were made.
        """
        made = [token for piece in pieces for token in await self._tokens(piece)]
        prompt = [*await self._prompt(question), *made]
        if self.kind == "llamacpp":
            body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
            return str((await self._post("/completion", body))["content"])
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0}
        return str((await self._post("/v1/completions", body))["choices"][0]["text"])

    async def gap_where_they_part(self, question: str, one: str, other: str) -> float:
        """Return how much better it likes its favourite than either text's token, where two answers part, in nats."""
        first, second = await self._tokens(one), await self._tokens(other)
        at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
        if at is None:
            return float("inf")  # one is the beginning of the other: something is missing
        likes = await self._likes([*await self._prompt(question), *first[:at]])
        texts = [await self._text([tokens[at]]) for tokens in (first, second)]
        best = max(likes.values())
        return max(best - likes.get(text, -float("inf")) for text in texts)

    async def _likes(self, prompt: list[int | str]) -> dict[str, float]:
        if self.kind == "llamacpp":
            body = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": CANDIDATES, "cache_prompt": False}
            top = (await self._post("/completion", body))["completion_probabilities"][0]["top_logprobs"]
            return {entry["token"]: entry["logprob"] for entry in top}
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": CANDIDATES}
        likes: dict[str, float] = (await self._post("/v1/completions", body))["choices"][0]["logprobs"]["top_logprobs"][
            0
        ]
        return likes

    async def _prompt(self, question: str) -> list[int | str]:
        messages = [{"role": "user", "content": question}]
        if self.kind == "llamacpp":
            return [(await self._post("/apply-template", {"messages": messages}))["prompt"]]
        return list((await self._post("/tokenize", {"messages": messages}))["tokens"])

    async def _tokens(self, text: str) -> list[int]:
        body: dict[str, Any] = {"prompt": text, "add_special_tokens": False}
        if self.kind == "llamacpp":
            body = {"content": text, "add_special": False, "parse_special": False}
        return list((await self._post("/tokenize", body))["tokens"])

    async def _text(self, tokens: list[int]) -> str:
        answer = await self._post("/detokenize", {"tokens": tokens})
        return str(answer["content" if self.kind == "llamacpp" else "prompt"])

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        return (await self.client.post(f"{self.url}{path}", json=body)).raise_for_status().json()


async def alone_at(url: str, client: httpx.AsyncClient) -> Alone:
    """Return the replica at an address, with its kind found out."""
    models = (await client.get(f"{url}/v1/models")).raise_for_status().json()["data"]
    return Alone(url, models[0]["owned_by"], client)
