import pytest

from secondsource.port.carrying import carry_layers_on, carry_on, depths_of
from secondsource.port.job import Depth, Depths, Program, Step
from secondsource.port.models import find_model
from secondsource.port.timeline import Spent, Walked

GEMMA = find_model("gemma-3-27b").config  # 62 layers, 52 of them with a window
LLAMA = find_model("llama-3.1-70b").config  # 80 layers


def walked(*layers_s: float, before: float = 1.0, after: float = 2.0) -> Walked:
    """Return a walk whose layers take so long, between what is before and after them."""
    ends = [before + sum(layers_s[: number + 1]) for number in range(len(layers_s))]
    spent = [Spent(seconds=end, cores_s=end, memory_s=0.0, links_s=0.0, operations=1) for end in ends]
    whole = ends[-1] + after
    return Walked(seconds=whole, cores_s=whole, memory_s=0.0, links_s=0.0, operations=1, layers=tuple(spent))


def program(step: Step, filled_tokens: int = 0) -> Program:
    return Program(step=step, sequences=8, context_tokens=4096, filled_tokens=filled_tokens)


def test_few_layers_are_compiled_and_of_each_kind_some() -> None:
    assert depths_of(LLAMA, program("decode"), whole=False) == Depths((Depth(4), Depth(8)), (Depth(4),))
    assert depths_of(LLAMA, program("decode", 1024), whole=False) == Depths((Depth(8),))
    assert depths_of(LLAMA, program("prefill"), whole=False) == Depths((Depth(1), Depth(2)), (Depth(80),))
    assert depths_of(GEMMA, program("decode"), whole=False) == Depths((Depth(2, 2), Depth(4, 4)), (Depth(2, 2),))
    assert depths_of(GEMMA, program("prefill"), whole=False) == Depths((Depth(1), Depth(1, 1)), (Depth(10, 52),))
    assert depths_of(GEMMA, program("decode"), whole=True) == Depths((Depth(10, 52),))


def test_the_first_layer_and_the_last_are_not_carried_on() -> None:
    found = carry_layers_on(walked(9.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 20.0), Depth(8), LLAMA)
    assert found is not None
    assert found.seconds == pytest.approx(1 + 9 + 78 * 3 + 20 + 2)


def test_each_kind_of_layer_is_carried_on_as_its_own() -> None:
    found = carry_layers_on(walked(9.0, 2.0, 2.0, 2.0, 5.0, 5.0, 5.0, 20.0), Depth(4, 4), GEMMA)
    assert found is not None
    assert found.seconds == pytest.approx(1 + 9 + 51 * 2 + 9 * 5 + 20 + 2)


def test_every_layer_compiled_is_taken_as_it_is() -> None:
    assert carry_layers_on(walked(1.0), Depth(10, 52), GEMMA) == walked(1.0)


def test_ends_that_are_missing_are_told() -> None:
    assert carry_layers_on(walked(1.0, 1.0), Depth(8), LLAMA) is None
    assert carry_layers_on(walked(1.0), Depth(1), LLAMA) is None


def test_a_line_is_carried_on_exactly_and_never_falls() -> None:
    assert carry_on(7 + 3 * 4, 7 + 3 * 8, (Depth(4), Depth(8)), LLAMA) == pytest.approx(7 + 3 * 80)
    assert carry_on(5.0, 4.0, (Depth(2), Depth(4)), LLAMA) == 4.0
