"""Text to token ids and back, with the `tokenizers` library, from the model's own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path


class Tokenizer:
    """One model's tokenizer."""

    vocabulary: int
    beginning_of_sequence: int | None
    adds_beginning: bool  # whether the model expects `beginning_of_sequence` before a bare text
    ends: frozenset[int]  # the token ids that end an answer

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the ids of `text`, with no beginning token added; `special`: read `<|im_end|>` as one token."""
        raise NotImplementedError

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of `tokens`; half characters become U+FFFD."""
        raise NotImplementedError

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` adds to a text; empty for a control token.

        The bytes of an answer's tokens, joined, are its text in UTF-8: a stream is decoded incrementally.
        """
        raise NotImplementedError

    def token_text(self, token: int) -> str:
        """Return the token as a person reads it, control tokens too (for logprobs)."""
        raise NotImplementedError


def from_gguf(metadata: Mapping[str, object]) -> Tokenizer:
    """Return the tokenizer that a GGUF file's metadata describes; raises InputError for a kind unknown here."""
    raise NotImplementedError


def from_directory(directory: Path) -> Tokenizer:
    """Return the tokenizer of a Hugging Face directory: `tokenizer.json`, `tokenizer_config.json`."""
    raise NotImplementedError
