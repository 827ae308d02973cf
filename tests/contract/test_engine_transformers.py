"""The decoder answers as transformers does in float32, on random tiny models of each family."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from secondsource.engine.cache import empty_cache
from secondsource.engine.decoder import prefill
from secondsource.engine.weights_safetensors import SafetensorsModel
from tests.contract.engine_tiny import DOCUMENTS, TOKENS, tokens, write_model

GOLDEN = Path(__file__).parent / "engine_golden.npz"  # made by benchmarks/engine_oracle.py
CLOSE = 1e-4


def our_logits(directory: Path) -> np.ndarray:
    """Return our logits of the common tokens, [2, TOKENS, V]."""
    model = SafetensorsModel(directory)
    cache = empty_cache(model.config, 2, TOKENS, jnp.dtype(jnp.float32))
    logits, _ = prefill(
        model.parameters("float32"),
        model.config,
        jnp.asarray(tokens(), jnp.int32),
        jnp.zeros(2, jnp.int32),
        jnp.full(2, TOKENS),
        jnp.arange(2),
        cache,
        all_positions=True,
    )
    return np.asarray(logits)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_logits_are_those_that_transformers_gave(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN)[name]
    assert np.abs(golden).max() > 1.0  # logits of some size, so that the bound below says something
    assert np.abs(our_logits(write_model(name, tmp_path)) - golden).max() < CLOSE


@pytest.mark.parametrize("name", DOCUMENTS)
def test_logits_are_those_that_transformers_gives_now(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `oracle` is not installed; the golden logits were compared instead")
    from benchmarks.engine_oracle import logits

    assert np.abs(our_logits(write_model(name, tmp_path)) - logits(name)).max() < CLOSE
