"""Engines asked directly, without a gateway: how each goes on with a text, and how it likes one token or another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

CANDIDATES = 20


@dataclass(frozen=True)
class Continued:
    """What an engine says after a part: its text, and the tokens that it made."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Alone:
    """One replica, asked past the gateway; `kind` is how it names itself."""

    url: str
    kind: str
    client: httpx.AsyncClient

    async def goes_on(self, question: str, pieces: Sequence[str], tokens: int) -> Continued:
        """Return what it says after the first part of an answer, at temperature 0.

        Each piece is the text of one token and is made a token again by itself: all together might be cut otherwise
        than they were made.
        """
        prompt = [*await self._prompt(question), *await self._made(pieces)]
        if self.kind == "llamacpp":
            body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
            said = await self._post("/completion", {**body, "return_tokens": True})
            return Continued(said["content"], tuple(said["tokens"]))
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "return_token_ids": True}
        said = (await self._post("/v1/completions", body))["choices"][0]
        return Continued(said["text"], tuple(said["token_ids"]))

    async def gap_where_they_part(
        self, question: str, before: Sequence[str], pieces: Sequence[str], expected: Continued
    ) -> float:
        """Return how much better it likes its favourite than either token, where two continuations part, in nats.

        Token by token too: `before` and `pieces` as they were made, `expected` by the ids it gave itself.
        """
        made = await self._made(pieces)
        at = next((i for i, (a, b) in enumerate(zip(expected.ids, made, strict=False)) if a != b), None)
        if at is None:
            return float("inf")  # one is the beginning of the other: something is missing
        likes = await self._likes([*await self._prompt(question), *await self._made(before), *made[:at]])
        texts = [await self._text([token]) for token in (expected.ids[at], made[at])]
        best = max(likes.values())
        return max(best - likes.get(text, -float("inf")) for text in texts)

    async def _made(self, pieces: Sequence[str]) -> list[int]:
        return [token for piece in pieces for token in await self._tokens(piece)]

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
