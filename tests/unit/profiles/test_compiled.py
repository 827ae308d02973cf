from datetime import date
from pathlib import Path

import msgspec
import pytest

from secondsource.catalog.load import one_chip, shipped_catalog
from secondsource.core.demand import SizeClass, Slo
from secondsource.core.errors import InputError
from secondsource.profiles.capacity import capacity, shipped_profiles
from secondsource.profiles.compiled import CompiledProfile, read_compiled, store_compiled
from secondsource.profiles.efficiency import Correction, Evidence
from secondsource.profiles.models import one_model
from secondsource.profiles.predict import speed
from secondsource.profiles.roofline import Precision, Replica

PROFILE = CompiledProfile(
    model="llama-3.1-8b", chip="tpu-v5p", precision="int8", factor=2.0, median=0.2, p90=0.5, chips=1, batch=8,
    context_tokens=2048, decode_step_s=0.01, compiler="jax 0.10.2, libtpu 0.0.42.1", as_of=date(2026, 11, 22),
)  # fmt: skip


def test_a_stored_profile_is_read_back_and_replaced(tmp_path: Path) -> None:
    store_compiled(PROFILE, tmp_path)
    newer = msgspec.structs.replace(PROFILE, factor=3.0)
    store_compiled(newer, tmp_path)
    assert read_compiled(tmp_path) == (newer,)
    assert read_compiled(tmp_path / "nowhere") == ()


def test_a_damaged_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(InputError, match=r"odd\.json: no compiled profile"):
        read_compiled(tmp_path)


def test_the_planner_s_capacity_follows_a_compiled_profile() -> None:
    profiles = shipped_profiles()
    size = SizeClass(name="chat", input_tokens=500, output_tokens=500)
    slo = Slo(ttft_s=None, tpot_s=None)

    def rate(compiled: tuple[Correction, ...]) -> float:
        known = msgspec.structs.replace(profiles, compiled=compiled)
        found = capacity("llama-3.1-8b", "tpu-v5p", 1, size, slo, 1, profiles=known, precision=Precision.INT8)
        assert found.evidence is Evidence.COMPILED
        return found.requests_per_s

    assert rate((PROFILE.correction,)) == pytest.approx(rate(()) / 2, rel=1e-6)


def test_what_was_published_or_measured_comes_first() -> None:
    chip = one_chip(shipped_catalog(date.max), "tpu-v5p")
    model = one_model("llama-3.1-8b")
    replica = Replica(chip=chip, chips=1, precision=Precision.INT8)
    efficiencies = shipped_profiles().efficiencies
    compiled = PROFILE.correction
    measured = msgspec.structs.replace(compiled, factor=5.0)
    assert speed(model, replica, efficiencies, compiled=compiled).correction == 2.0
    assert speed(model, replica, efficiencies, compiled=compiled, measured=measured).correction == 5.0
