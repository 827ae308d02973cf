import json
from decimal import Decimal
from typing import Literal

import msgspec
import pytest

from secondsource.core.errors import InputError
from secondsource.port.estimate import estimate
from secondsource.port.job import Fault
from secondsource.port.report import Report
from tests.unit.port.fakes import CATALOG, FakeCompiler, ask, held, silent


def report(
    compiler: FakeCompiler | None = None, model: str = "llama-3.1-8b", chip: str = "tpu-v6e", **more: object
) -> Report:
    return estimate(ask(model, chip, **more), CATALOG, "2026-11-22", silent, compiler or FakeCompiler())


def test_the_fewest_chips_are_found() -> None:
    found = report(model="llama-3.1-70b")
    assert found.chips == found.chips_needed == 8  # 141 GB of weights: 4 chips hold 134 GB, 8 hold 268 GB
    setup = ask("llama-3.1-70b").setup(4, 8)
    assert held(setup) > setup.target.memory_bytes_per_device
    assert report(model="llama-3.1-70b", weights="int8").chips_needed == 4


def test_too_few_chips_do_not_fit_and_what_would_is_said() -> None:
    found = report(model="llama-3.1-70b", chips=4)
    assert found.compiles
    assert found.fits is False
    assert not found.yes
    assert found.chips_needed == 8
    assert found.output_tokens_per_s is None
    assert "it fits on 8 chips" in found.changes
    assert any("--weights int8" in change for change in found.changes)


def test_figures_follow_from_the_compiled_steps() -> None:
    found = report(
        FakeCompiler(layer_s=1e-5), chips=2, batch=8, context_tokens=2048, prompt_tokens=1024, full_slots=True
    )
    # Slots hold a prompt of 1,024 tokens and half of an answer of 1,024.
    assert found.filled_tokens == 1536
    assert found.decode_step_s == pytest.approx(1e-4 + 32 * 6e-5)
    assert found.full_decode_step_s == pytest.approx(1e-4 + 32 * 8e-5)
    assert found.prefill_s == pytest.approx(2 * (1e-4 + 32 * 1e-4))  # two chunks of 512
    assert found.tpot_s == pytest.approx(found.decode_step_s + 8 * found.prefill_s / 1024)
    assert found.output_tokens_per_s == pytest.approx(8 / found.tpot_s)
    price = found.price
    assert price is not None
    per_hour = 2 * price.usd_per_chip_hour
    assert found.usd_per_million_output_tokens == (
        per_hour * 1_000_000 / Decimal(found.output_tokens_per_s * 3600)
    ).quantize(Decimal("0.01"))
    assert found.served_tpot_s == (pytest.approx(found.tpot_s + 0.004), pytest.approx(found.tpot_s + 0.006))


def test_slots_filled_in_part_are_quicker_and_need_the_memory_of_full_ones() -> None:
    def filled(tokens: int | None, *, full_slots: bool = True) -> Report:
        return report(
            chips=2, batch=8, context_tokens=2048, prompt_tokens=512, filled_tokens=tokens, full_slots=full_slots
        )

    full, part = filled(2048), filled(512)
    assert (full.filled_tokens, part.filled_tokens, part.context_tokens) == (2048, 512, 2048)
    assert part.decode_step_s == pytest.approx(1e-4 + 32 * 2e-5)
    assert full.decode_step_s == full.full_decode_step_s == part.full_decode_step_s
    assert full.decode_step_s == pytest.approx(1e-4 + 32 * 8e-5)
    assert part.hbm_gb_per_chip == full.hbm_gb_per_chip == filled(512, full_slots=False).hbm_gb_per_chip
    assert filled(512, full_slots=False).full_decode_step_s is None
    assert part.roofline_decode_step_s < full.roofline_decode_step_s
    assert filled(None) == filled(1280)
    for wrong in (0, 2049):
        with pytest.raises(InputError, match="--filled"):
            filled(wrong)


def test_a_cache_in_8_bits_is_half_and_comes_with_weights_in_8_bits() -> None:
    wide = report(chips=2, batch=8, weights="int8", cache="bf16")
    narrow = report(chips=2, batch=8, weights="int8")
    assert (wide.cache, narrow.cache, report(chips=2, batch=8).cache) == ("bf16", "int8", "bf16")
    halves = narrow.hbm_gb_per_chip.cache / wide.hbm_gb_per_chip.cache
    assert halves == pytest.approx(0.5 + 4 / 256)  # 4 bytes beside the 128 of each head's token
    assert narrow.roofline_decode_step_s < wide.roofline_decode_step_s


def test_json_has_the_promised_keys() -> None:
    written = json.loads(msgspec.json.encode(report()))
    promised = {
        "compiles", "fits", "chips_needed", "hbm_gb_per_chip", "prefill_s", "decode_step_s", "output_tokens_per_s",
        "usd_per_million_output_tokens", "evidence", "error",
    }  # fmt: skip
    assert promised <= set(written)
    assert {"weights", "cache", "temporaries", "available"} <= set(written["hbm_gb_per_chip"])
    assert {"decode_step_s", "prefill_s"} <= set(written["evidence"])


def test_a_limit_chooses_the_largest_batch_that_keeps_it() -> None:
    # A decode step takes 0.1 ms and, with slots half full, 0.16 ms a sequence; prompts beside it take little.
    found = report(FakeCompiler(layer_s=1e-5), tpot_s=0.012, context_tokens=2048, prompt_tokens=16)
    assert found.batch == 64
    assert found.slo.met is True
    assert (
        report(FakeCompiler(layer_s=1e-5), tpot_s=0.012, batch=128, context_tokens=2048, prompt_tokens=16).batch == 64
    )


def test_a_limit_that_no_batch_keeps_is_missed_openly() -> None:
    found = report(FakeCompiler(layer_s=1e-3), tpot_s=0.001)
    assert found.slo.met is False
    assert any("1 ms are allowed" in change for change in found.changes)


def test_what_does_not_compile_says_where() -> None:
    fault = Fault(kind="refused", program=None, message="no such thing", where="engine/decoder.py:9")
    found = report(FakeCompiler(fault=fault))
    assert found.compiles is False
    assert found.failure is not None
    assert found.failure.where == "engine/decoder.py:9"
    assert found.chips_needed is None
    assert found.decode_step_s is None


@pytest.mark.parametrize(("kind", "compiles"), [("refused", False), ("crashed", None), ("time", None)])
def test_what_goes_wrong_on_the_fewest_chips_is_not_hidden_by_more(
    kind: Literal["refused", "crashed", "time"], compiles: bool | None
) -> None:
    compiler = FakeCompiler(fault=Fault(kind=kind, program=None, message="no such thing"))
    found = report(compiler, model="llama-3.1-8b")
    assert [job.target.chips for job in compiler.jobs] == [1]
    assert (found.chips, found.chips_needed, found.compiles) == (1, None, compiles)


def test_each_setup_is_compiled_once() -> None:
    compiler = FakeCompiler()
    report(compiler, model="llama-3.1-70b", chips=8)
    assert len(compiler.jobs) == 1


def test_a_gpu_takes_its_time_from_the_profiles_and_says_so() -> None:
    found = report(chip="h100-sxm", batch=8)
    assert found.figures == "served"
    assert found.evidence["decode_step_s"].evidence == "profile"
    assert found.decode_step_s is not None
    assert found.decode_step_s > found.roofline_decode_step_s


def test_more_devices_than_key_value_heads_hold_the_cache_twice() -> None:
    found = report(model="llama-3.1-70b", chips=16)
    assert found.sharding.cache_copies == 2
    assert any("held 2 times" in change for change in found.changes)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt_tokens": 4096}, "--prompt 4096"),
        ({"context_tokens": 1_000_000}, "holds at most 131072"),
        ({"batch": 0}, "--batch 0"),
        ({"chips": 3}, "power of two"),
        ({"data_parallel": 3}, "copies must divide the batch"),
    ],
)
def test_questions_that_cannot_be_asked(more: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        report(**more)  # type: ignore[arg-type]


def test_a_day_of_requests_touches_few_shapes() -> None:
    found = report()
    assert 5 <= found.shapes.programs <= 25
    assert found.shapes.cold_compile_s is not None
