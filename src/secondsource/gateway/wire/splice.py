"""A second replica's answer made to go on where the first one's was cut. Pure; one `Splice` an attempt.

Three ways to begin: EXACT goes on by itself; a PREFILL continuation first repeats the prefix it was given where that
is the engine's way (`habit` finds out); REMAKE is the whole answer again, and is good only as long as it
repeats what the client has. Events are rewritten to carry the answer's first id, so that a client sees one stream.
"""

from typing import Any

import msgspec

from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import ChoiceSoFar, Delivered
from secondsource.gateway.wire.events import UsageReport
from secondsource.gateway.wire.request import Endpoint

Json = dict[str, Any]  # an event's own JSON: every key that we do not know is kept


class DepartedError(Exception):
    """The answer made afresh differs from what the client already has."""


class Repeat:
    """Matches text that comes in pieces against text the client already has."""

    __slots__ = ("expected", "matched")

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.matched = 0

    def feed(self, text: str) -> str | None:
        """Return what comes after the repetition ("" while still inside it), or None when the text departs."""
        left = self.expected[self.matched : self.matched + len(text)]
        if not text.startswith(left):
            return None
        self.matched += len(left)
        return text[len(left) :]

    @property
    def over(self) -> bool:
        """Return whether everything was repeated."""
        return self.matched == len(self.expected)


class Splice:
    """Rewrites the events of a continuing attempt; `feed` raises DepartedError for an answer that differs."""

    def __init__(self, delivered: Delivered, endpoint: Endpoint, method: Method, *, repeats: bool) -> None:
        self._delivered = delivered
        self._chat = endpoint is Endpoint.CHAT
        self._method = method
        self._tokens_before = delivered.tokens
        self.repeated = 0  # events that only said the given prefix again: nothing was made for them
        self._repeated: dict[tuple[int, str], Repeat] = {}
        self._undecided = ""  # text that may be a repetition of the prefix
        self._half = ""  # what may be half a character
        self._gap = ""  # white space the client has and the prefix had not
        if method is Method.REMAKE:
            for index, so_far in delivered.choices.items():
                self._expect(index, so_far)
        elif method is Method.PREFILL:
            text = delivered.choices[0].text
            self._gap = text[len(text.rstrip()) :] if self._chat else ""
            if repeats:
                self._repeated[0, "text"] = Repeat(text.rstrip() if self._chat else text)

    def _expect(self, index: int, so_far: ChoiceSoFar) -> None:
        expected = {
            "text": so_far.text,
            "reasoning": "".join(so_far.reasoning),
            "refusal": "".join(so_far.refusal),
        }
        for number, call in so_far.tool_calls.items():
            expected[f"name {number}"] = call.name
            expected[f"arguments {number}"] = call.arguments
        for field, text in expected.items():
            if text:
                self._repeated[index, field] = Repeat(text)

    def feed(self, payload: bytes) -> bytes | None:
        """Return the event to send instead, or None when it adds nothing; raises DepartedError."""
        event: Json = msgspec.json.decode(payload)
        choices = [rewritten for choice in event.get("choices") or () if (rewritten := self._choice(choice))]
        usage = event.get("usage")
        if not choices and not usage:
            return None
        event["choices"] = choices
        if self._delivered.id is not None:
            event["id"] = self._delivered.id
        event["object"] = "chat.completion.chunk" if self._chat else "text_completion"
        if self._delivered.created is not None:
            event["created"] = self._delivered.created
        if usage and self._method is not Method.REMAKE:
            event["usage"] = self._whole(usage)
        return msgspec.json.encode(event)

    def _choice(self, choice: Json) -> Json | None:
        index = choice.get("index") or 0
        so_far = self._delivered.choices.get(index)
        if so_far is not None and so_far.finish_reason is not None:
            return None  # this choice was whole before the cut
        finish = choice.get("finish_reason")
        delta = choice.pop("delta", None) or {}
        if "text" in choice:
            delta["content"] = choice.pop("text")
        delta.pop("role", None)
        text = delta.pop("content", None) or ""
        content = self._text(index, text, last=finish is not None)
        if self._chat and self._method is Method.TOKENS:
            content = self._whole_characters(content, last=finish is not None)
        if content != text:
            choice.pop("token_ids", None)  # they are not this text's any more
        added = self._fields(index, delta)
        if content:
            added["content"] = content
        if finish is not None:
            self._check_finished(index)
        elif not added:
            return None
        if self._chat:
            choice["delta"] = added
        else:
            choice["text"] = added.get("content", "")
        choice.setdefault("finish_reason", finish)
        choice["index"] = index
        if self._method is Method.TOKENS:
            choice.pop("logprobs", None)
        return choice

    def _text(self, index: int, text: str, *, last: bool) -> str:
        repeat = self._repeated.get((index, "text"))
        if repeat is None:
            return self._without_gap(text)
        if text:
            all_said = repeat.over  # so that this is new, even where it is only the white space that was left off
            rest = repeat.feed(text)
            if rest is None:
                if self._method is Method.REMAKE:
                    raise DepartedError
                del self._repeated[index, "text"]
                self.repeated = 0
                return self._without_gap(self._undecided + text)
            self._undecided += text
            if repeat.over and rest:
                del self._repeated[index, "text"]
                rest = self._without_gap(rest)
                self.repeated += self._method is Method.PREFILL and not rest and not all_said
                return rest
            self.repeated += self._method is Method.PREFILL
        if last and not repeat.over and self._method is Method.PREFILL:
            # It ended inside what looked like a repetition: a short continuation that begins as the prefix did.
            del self._repeated[index, "text"]
            self.repeated = 0
            return self._without_gap(self._undecided)
        return ""

    def _whole_characters(self, text: str, *, last: bool) -> str:
        """Leave off half a character at the very end, as a chat does: a text completion shows it as U+FFFD."""
        text, self._half = self._half + text, ""
        whole = text.rstrip("\ufffd")
        if not last:
            self._half = text[len(whole) :]
        return whole

    def _without_gap(self, text: str) -> str:
        while self._gap and text and text[0] == self._gap[0]:
            self._gap, text = self._gap[1:], text[1:]
        if text:
            self._gap = ""
        return text

    def _fields(self, index: int, delta: Json) -> Json:
        """Return what a chat event adds besides its text, without what the client already has."""
        added: Json = {}
        for name in ("reasoning_content", "reasoning", "refusal"):
            value = delta.pop(name, None)
            if value:
                rest = self._rest(index, "refusal" if name == "refusal" else "reasoning", value)
                if rest:
                    added[name] = rest
        fragments = delta.pop("tool_calls", None) or ()
        calls = [fragment for call in fragments if (fragment := self._tool_call(index, call))]
        if calls:
            added["tool_calls"] = calls
        added.update({name: value for name, value in delta.items() if value is not None})
        return added

    def _tool_call(self, index: int, call: Json) -> Json | None:
        number = call.get("index") or 0
        so_far = self._delivered.choices.get(index)
        if so_far is None or number not in so_far.tool_calls:
            return call
        function = call.get("function") or {}
        rest = {
            name: text
            for name in ("name", "arguments")
            if (text := self._rest(index, f"{name} {number}", function.get(name) or ""))
        }
        return {"index": number, "function": rest} if rest else None

    def _rest(self, index: int, field: str, text: str) -> str:
        repeat = self._repeated.get((index, field))
        if repeat is None or not text:
            return text
        rest = repeat.feed(text)
        if rest is None:
            raise DepartedError
        if repeat.over and rest:
            del self._repeated[index, field]
        return rest

    def _check_finished(self, index: int) -> None:
        """A remade answer that ends before it has said what the client already has is another answer."""
        if self._method is Method.REMAKE:
            for (choice, _), repeat in self._repeated.items():
                if choice == index and not repeat.over:
                    raise DepartedError

    def _whole(self, usage: Json) -> Json:
        """Return the usage of the whole answer: what was made before counts as answer, not as prompt."""
        try:
            report = msgspec.convert(usage, UsageReport)
        except msgspec.ValidationError:
            return usage  # of a shape that we do not know, and cannot add to
        prompt = max(report.prompt_tokens - self._tokens_before, 0)
        answer = (report.completion_tokens or 0) + self._tokens_before
        whole = {**usage, "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        details = report.prompt_tokens_details
        if details is not None and (details.cached_tokens or 0) > prompt:
            whole["prompt_tokens_details"] = {**usage["prompt_tokens_details"], "cached_tokens": prompt}
        return whole
