"""The GGUF header: the facts that decide memory, and files that are not GGUF."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.errors import InputError
from secondsource.embedded.gguf import GgufFacts, read_gguf

UINT32, STRING, ARRAY = 4, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", UINT32, value)


def header(*entries: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries)) + b"".join(entries)


LLAMA = (
    text("general.architecture") + struct.pack("<I", STRING) + text("llama"),
    text("general.tags") + struct.pack("<IIQ", ARRAY, STRING, 2) + text("a") + text("b"),
    number("llama.block_count", 30),
    number("llama.embedding_length", 576),
    number("llama.attention.head_count", 9),
    number("llama.attention.head_count_kv", 3),
    number("llama.context_length", 8192),
)


def write(directory: Path, data: bytes) -> Path:
    path = directory / "model.gguf"
    path.write_bytes(data)
    return path


def test_memory_for_a_token_is_layers_times_heads_times_widths_times_two_bytes(tmp_path: Path) -> None:
    data = header(*LLAMA)
    assert read_gguf(write(tmp_path, data)) == GgufFacts(
        architecture="llama",
        file_bytes=len(data),
        context_length=8192,
        cache_bytes_per_token=30 * 3 * (64 + 64) * 2,
    )


def test_stated_widths_go_before_derived_ones(tmp_path: Path) -> None:
    stated = (number("llama.attention.key_length", 128), number("llama.attention.value_length", 256))
    facts = read_gguf(write(tmp_path, header(*LLAMA, *stated)))
    assert facts.cache_bytes_per_token == 30 * 3 * (128 + 256) * 2


def test_what_the_header_does_not_say_is_zero(tmp_path: Path) -> None:
    facts = read_gguf(write(tmp_path, header(LLAMA[0])))
    assert (facts.context_length, facts.cache_bytes_per_token) == (0, 0)


def test_the_vocabulary_is_not_read(tmp_path: Path) -> None:
    endless = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 2**40)
    assert read_gguf(write(tmp_path, header(*LLAMA, endless))).architecture == "llama"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF\x03", "damaged"),
        (header(*LLAMA)[:-1], "damaged"),
        (header(*LLAMA, version=99), "version 99"),
        (header(text("x") + struct.pack("<I", 77)), "damaged"),
        (header(text("x") + struct.pack("<IIQ", ARRAY, ARRAY, 1)), "damaged"),
        (header(struct.pack("<Q", 2**60)), "damaged"),
    ],
)
def test_a_file_that_is_not_gguf_is_the_users_to_mend(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_gguf(write(tmp_path, data))


def test_a_path_of_nothing_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(InputError, match="directory"):
        read_gguf(tmp_path)


@given(place=st.integers(0, len(header(*LLAMA)) - 1), value=st.integers(0, 255))
def test_a_damaged_byte_is_facts_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    data = bytearray(header(*LLAMA))
    data[place] = value
    path = write(tmp_path_factory.mktemp("gguf"), bytes(data))
    try:
        facts = read_gguf(path)
    except InputError:
        return
    assert facts.context_length >= 0
    assert facts.cache_bytes_per_token >= 0
