"""The few facts of a GGUF file that decide how much memory serving it takes."""

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from secondsource.core.errors import InputError

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_LONGEST_STRING = 16 * 1024 * 1024  # a chat template is kilobytes; a length beyond this is a damaged file
_MOST_ENTRIES = 10_000
_BYTES_PER_CACHED_VALUE = 2  # llama.cpp keeps keys and values as 16-bit floats unless told otherwise


class GgufFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF header says; sizes in bytes, 0 where the header does not say."""

    architecture: str
    file_bytes: int
    context_length: int  # tokens the model was trained on
    cache_bytes_per_token: int  # keys and values of all layers, for one token of one stream


def read_gguf(path: Path) -> GgufFacts:
    """Return the facts of the GGUF file at `path`.

    Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Raises InputError when there is no
    such file or it is not GGUF.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise InputError(f"{path}: cannot read the model: {error.strerror}; --model takes a .gguf file") from error
    except (struct.error, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the GGUF header is damaged ({error}); download the file again") from error


def _read(path: Path, file: BinaryIO) -> GgufFacts:
    if file.read(4) != MAGIC:
        raise InputError(f"{path}: not a GGUF file (it does not begin with {MAGIC.decode()}); --model takes one")
    version, _tensors, entries = struct.unpack("<IQQ", _exactly(file, 20))
    if version not in {2, 3} or entries > _MOST_ENTRIES:
        raise InputError(f"{path}: GGUF version {version} is not known here; versions 2 and 3 are")
    numbers: dict[str, int] = {}
    architecture = ""
    for _ in range(entries):
        key = _string(file)
        if key.startswith("tokenizer."):
            break  # writers put the model's own numbers first, and the vocabulary is long to walk
        value = _value(file, struct.unpack("<I", _exactly(file, 4))[0])
        if key == "general.architecture" and isinstance(value, str):
            architecture = value
        elif isinstance(value, int):
            numbers[key] = value
    return GgufFacts(
        architecture=architecture,
        file_bytes=path.stat().st_size,
        context_length=numbers.get(f"{architecture}.context_length", 0),
        cache_bytes_per_token=_cache_bytes_per_token(architecture, numbers),
    )


def _cache_bytes_per_token(architecture: str, numbers: dict[str, int]) -> int:
    """Return layers × key/value heads × (key + value width) × 2 bytes, or 0 when a number is missing."""
    layers = numbers.get(f"{architecture}.block_count", 0)
    heads = numbers.get(f"{architecture}.attention.head_count", 0)
    key_value_heads = numbers.get(f"{architecture}.attention.head_count_kv", heads)
    width = numbers.get(f"{architecture}.embedding_length", 0) // max(heads, 1)
    key_width = numbers.get(f"{architecture}.attention.key_length", width)
    value_width = numbers.get(f"{architecture}.attention.value_length", width)
    return layers * key_value_heads * (key_width + value_width) * _BYTES_PER_CACHED_VALUE


def _value(file: BinaryIO, kind: int) -> int | float | str | None:
    """Return a scalar or a string; walk past an array and return None."""
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        form = _SCALARS.get(kind)
        if form is None:
            raise EOFError(f"value type {kind} is not known")
        number: int | float = struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]
        return number
    item_kind, count = struct.unpack("<IQ", _exactly(file, 12))
    if item_kind == _ARRAY:
        raise EOFError("an array of arrays")
    for _ in range(count):
        _value(file, item_kind)
    return None


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > _LONGEST_STRING:
        raise EOFError(f"a string of {length} bytes")
    return _exactly(file, length).decode()


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError("it ends too early")
    return data
