"""The embedded default as a fleet, and how its sources are sized."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.errors import InputError
from secondsource.core.fleet import Continuation
from secondsource.core.fleet_checks import contradictions
from secondsource.embedded.default_fleet import Sizing, choose_sizing, default_fleet, engine_reads, model_name
from secondsource.embedded.gguf import GgufFacts

SMOLLM2 = GgufFacts(architecture="llama", file_bytes=98_362_432, context_length=8192, cache_bytes_per_token=23_040)
EIGHT_BILLION = GgufFacts(
    architecture="llama", file_bytes=4_900_000_000, context_length=131_072, cache_bytes_per_token=131_072
)
GIB = 1024**3


def test_two_suppliers_serve_one_model_at_no_price() -> None:
    sizing = Sizing(slots=8, context_per_slot=4096, threads=1)
    fleet = default_fleet(model="smollm2-135m-instruct", ports=(20001, 20002), sizing=sizing, model_bytes=10**8)
    assert contradictions(fleet) == []
    assert fleet.models == ("smollm2-135m-instruct",)
    assert [pool.name for pool in fleet.pools] == ["local-a", "local-b"]
    assert [pool.supplier for pool in fleet.pools] == ["this-machine-a", "this-machine-b"]
    assert [pool.replicas for pool in fleet.pools] == [("http://127.0.0.1:20001",), ("http://127.0.0.1:20002",)]
    for pool in fleet.pools:
        assert (pool.chip, pool.continuation) == ("cpu", Continuation.TOKENS)
        assert (pool.context_tokens, pool.max_concurrency) == (4096, 8)
        assert pool.price.nano_usd_per_replica_hour == 0


def test_a_large_model_is_waited_for_longer() -> None:
    sizing = Sizing(slots=8, context_per_slot=4096, threads=1)
    small = default_fleet(model="m", ports=(20001, 20002), sizing=sizing, model_bytes=10**8)
    large = default_fleet(model="m", ports=(20001, 20002), sizing=sizing, model_bytes=5 * 10**9)
    assert large.timeouts.first_token > small.timeouts.first_token
    assert large.timeouts.between_tokens > small.timeouts.between_tokens


@pytest.mark.parametrize(
    ("facts", "memory", "slots", "context"),
    [
        (SMOLLM2, 24 * GIB, 8, 4096),
        (SMOLLM2, None, 8, 4096),
        (SMOLLM2, 2 * GIB, 8, 2048),
        (SMOLLM2, GIB, 2, 2048),
        (EIGHT_BILLION, 64 * GIB, 8, 4096),
        (EIGHT_BILLION, 24 * GIB, 8, 2048),
        (EIGHT_BILLION, 16 * GIB, 2, 2048),
    ],
)
def test_the_largest_sizing_that_fits_is_taken(facts: GgufFacts, memory: int | None, slots: int, context: int) -> None:
    assert choose_sizing(facts, memory, 2) == Sizing(slots=slots, context_per_slot=context, threads=1)


def test_a_model_that_cannot_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(InputError, match=r"need about 10\.\d GB and 8\.6 GB"):
        choose_sizing(EIGHT_BILLION, 8 * GIB, 2)


def test_our_own_engine_takes_more_memory_and_small_models_it_knows() -> None:
    assert choose_sizing(SMOLLM2, 8 * GIB, 2, engine=True).slots == 8
    assert choose_sizing(SMOLLM2, 4 * GIB, 2, engine=True).context_per_slot == 2048
    assert choose_sizing(SMOLLM2, 4 * GIB, 2).context_per_slot == 4096
    assert engine_reads(SMOLLM2)
    assert not engine_reads(EIGHT_BILLION)
    assert not engine_reads(GgufFacts(architecture="bert", file_bytes=1, context_length=512, cache_bytes_per_token=1))


def test_a_slot_holds_no_more_than_the_model_was_trained_on() -> None:
    short = GgufFacts(architecture="x", file_bytes=1, context_length=512, cache_bytes_per_token=1)
    assert choose_sizing(short, None, 2).context_per_slot == 512


@given(cores=st.integers(1, 256))
def test_sources_share_the_cores_and_never_compute_on_more(cores: int) -> None:
    threads = choose_sizing(SMOLLM2, None, cores).threads
    assert threads >= 1
    assert 2 * threads <= max(cores, 2)


@given(memory=st.integers(GIB, 512 * GIB))
def test_more_memory_never_gives_less(memory: int) -> None:
    less, more = choose_sizing(SMOLLM2, memory, 2), choose_sizing(SMOLLM2, memory + GIB, 2)
    assert more.slots * more.context_per_slot >= less.slots * less.context_per_slot


@pytest.mark.parametrize(
    ("stem", "name"),
    [("Qwen3-8B.Q4_K_M", "Qwen3-8B.Q4_K_M"), ("my model (1)", "my-model-1"), ("…", "model"), ("-x-", "x")],
)
def test_a_models_name_is_safe_in_a_shell_and_a_header(stem: str, name: str) -> None:
    assert model_name(stem) == name
