"""The tokenizer that a GGUF file's metadata describes."""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from secondsource.core.errors import InputError
from secondsource.engine.tokenizer import Tokenizer

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
# How a text is cut before merging; the names are llama.cpp's, the patterns the models' own tokenizer.json's.
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_PATTERN = _LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
_PATTERNS = {"llama-bpe": _LLAMA3_PATTERN, "llama3": _LLAMA3_PATTERN, "qwen2": _QWEN_PATTERN}
_DIGITS_APART = ("smollm",)
# Tokens that end a turn, by text: a GGUF names one end alone, and chat models have a second.
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")


def tokenizer_gguf(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """Return the tokenizer of a GGUF file's metadata; `where` names the file in errors.

    Raises InputError for a kind of tokenizer that is not one of ours.
    """
    pieces: list[str] = metadata["tokenizer.ggml.tokens"]
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        made = _byte_level(metadata, pieces, where)
    elif kind == "llama":
        made = _sentence_piece(metadata, pieces)
    else:
        raise InputError(f"{where}: tokenizer.ggml.model is {kind!r}; gpt2 or llama was expected")
    types = metadata.get("tokenizer.ggml.token_type", [])
    special = [piece for piece, kind in zip(pieces, types, strict=False) if kind == _CONTROL]
    written = [piece for piece, kind in zip(pieces, types, strict=False) if kind == _USER_DEFINED]
    made.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in special])
    made.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in written])
    controls = frozenset(special)
    ends = {made.token_to_id(piece) for piece in _ENDS if piece in controls}
    for key in ("eos_token_id", "eot_token_id"):
        ends.add(metadata.get(f"tokenizer.ggml.{key}"))
    return Tokenizer(
        made,
        vocabulary=len(pieces),
        beginning_of_sequence=metadata.get("tokenizer.ggml.bos_token_id"),
        adds_beginning=bool(metadata.get("tokenizer.ggml.add_bos_token", kind == "llama")),
        ends=frozenset(end for end in ends if end is not None),
    )


def _byte_level(metadata: Mapping[str, Any], pieces: list[str], where: str) -> tokenizers.Tokenizer:
    """Return a byte-level BPE tokenizer, as GPT-2's."""
    before = metadata.get("tokenizer.ggml.pre", "default")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False, ignore_merges=before in {"llama-bpe", "llama3"})
    )
    if before in _DIGITS_APART:
        cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    elif before in _PATTERNS:
        cut = [
            pre_tokenizers.Split(Regex(_PATTERNS[before]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    else:
        known = ", ".join((*_DIGITS_APART, *_PATTERNS))
        raise InputError(f"{where}: tokenizer.ggml.pre is {before!r}; one of {known} was expected")
    made.pre_tokenizer = pre_tokenizers.Sequence(cut)
    made.decoder = decoders.ByteLevel()
    return made


def _sentence_piece(metadata: Mapping[str, Any], pieces: list[str]) -> tokenizers.Tokenizer:
    """Return a SentencePiece BPE tokenizer; its merges follow from the scores: the best piece is made first."""
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    scores: list[float] = metadata["tokenizer.ggml.scores"]
    merges: list[tuple[float, int, int, str, str]] = []
    for number, piece in enumerate(pieces):
        for cut in range(1, len(piece)):
            left, right = vocabulary.get(piece[:cut]), vocabulary.get(piece[cut:])
            if left is not None and right is not None:
                merges.append((-scores[number], left, right, piece[:cut], piece[cut:]))
    merges.sort()
    made = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[(left, right) for *_, left, right in merges],
            unk_token=pieces[metadata.get("tokenizer.ggml.unknown_token_id", 0)],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    space = normalizers.Replace(" ", "▁")
    prefixed = metadata.get("tokenizer.ggml.add_space_prefix", True)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if prefixed else space
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return made
