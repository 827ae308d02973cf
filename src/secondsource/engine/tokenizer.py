"""Text to token ids and back, with the `tokenizers` library, from the model's own files."""

from collections.abc import Callable, Mapping, Sequence

import tokenizers
from tokenizers import decoders

_BYTE_PIECE_LENGTH = len("<0x00>")


class Tokenizer:
    """One model's tokenizer, over a `tokenizers.Tokenizer`; safe to call from any thread."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        vocabulary: int,
        beginning_of_sequence: int | None,
        adds_beginning: bool,
        ends: frozenset[int],
    ) -> None:
        """Hold `tokenizer`, whose own post-processing is not used: no beginning token is added here."""
        self._tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.beginning_of_sequence = beginning_of_sequence
        self.adds_beginning = adds_beginning  # whether the model expects it before a bare text
        self.ends = ends  # the token ids that end an answer
        self._control = frozenset(
            number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self._added = frozenset(tokenizer.get_added_tokens_decoder())
        self._bytes_of = _byte_level if isinstance(tokenizer.decoder, decoders.ByteLevel) else _byte_fallback
        self._byte_of_character = {character: byte for byte, character in enumerate(byte_characters())}

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, with no beginning token added; `<|im_end|>` and its like are one token."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` without control tokens; half characters become U+FFFD."""
        return b"".join(self.token_bytes(token) for token in tokens).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` adds to a text; empty for a control token.

        The bytes of an answer's tokens, joined, are its text in UTF-8: a stream is decoded incrementally.
        """
        piece = self._tokenizer.id_to_token(token)
        if piece is None or token in self._control:
            return b""
        if token in self._added:
            return piece.encode()
        return self._bytes_of(piece, self._byte_of_character)

    def token_text(self, token: int) -> str:
        """Return the token as a person reads it, control tokens too (for logprobs)."""
        if token in self._control:
            return str(self._tokenizer.id_to_token(token))
        return self.token_bytes(token).decode("utf-8", errors="replace")


_BytesOf = Callable[[str, Mapping[str, int]], bytes]


def byte_characters() -> list[str]:
    """Return the character that stands for each byte in a byte-level vocabulary (GPT-2's printable stand-ins)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + unprintable.index(byte)) for byte in range(256)]


def _byte_level(piece: str, byte_of_character: Mapping[str, int]) -> bytes:
    return bytes(byte_of_character[character] for character in piece)


def _byte_fallback(piece: str, _: Mapping[str, int]) -> bytes:
    """Return a SentencePiece's bytes: `▁` is a space, `<0x0A>` is one byte."""
    if len(piece) == _BYTE_PIECE_LENGTH and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace("▁", " ").encode()
