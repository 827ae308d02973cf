import msgspec
import pytest

from secondsource.port.collectives import HOP_S, Links
from secondsource.port.hlo import Module
from secondsource.port.timeline import Pace, Walked, walk
from tests.unit.port.test_loops import counted
from tests.unit.port.texts import compiled, module

LINKS = Links(shape=(2, 2), gb_s=50, closed_at=16)
PACE = Pace(cycles_per_s=1e9, memory_bytes_per_s=1e9, flops_per_s=1e12, least_cycles=1000, devices=4, links=LINKS)
CYCLES = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'
MEBIBYTE = "f32[262144]"


def walked(*lines: str) -> Walked:
    return walk(module(f"%a = {MEBIBYTE} parameter(0)", *lines), PACE)


def test_cycles_sum() -> None:
    found = walked(
        f"%b = f32[8]{{0:S(1)}} fusion(%a), kind=kLoop, calls=%f, {CYCLES % 3000}",
        f"ROOT %c = f32[8]{{0:S(1)}} fusion(%b), kind=kLoop, calls=%g, {CYCLES % 2000}",
    )
    assert found.seconds == pytest.approx(5e-6)
    assert found.cores_s == pytest.approx(5e-6)
    assert found.operations == 2


def test_what_lies_in_the_core_s_memory_waits_for_no_other() -> None:
    pace = msgspec.structs.replace(PACE, latency_cycles=1800)
    lines = (
        f"%a = {MEBIBYTE} parameter(0)",
        f"%b = f32[8]{{0:S(1)}} fusion(%a), kind=kLoop, calls=%f, {CYCLES % 3000}",
        f"%c = f32[8]{{0:S(1)}} fusion(%b), kind=kLoop, calls=%g, {CYCLES % 2000}",
        f"ROOT %d = f32[8]{{0:S(1)}} fusion(%c), kind=kLoop, calls=%g, {CYCLES % 20}",
    )
    assert walk(module(*lines), pace).seconds == pytest.approx(3.2e-6)
    assert walk(module(*lines), PACE).seconds == pytest.approx(5.02e-6)


def test_a_copy_is_waited_for_less_what_work_covers() -> None:
    copy = f"%s = ({MEBIBYTE}{{0:S(1)}}, {MEBIBYTE}, u32[]) copy-start(%a)"
    work = f"%w = f32[8]{{0:S(1)}} fusion(%v), kind=kLoop, calls=%f, {CYCLES % 400_000}"
    done = f"ROOT %d = {MEBIBYTE}{{0:S(1)}} copy-done(%s)"
    assert walked(copy, done).memory_s == pytest.approx(1.048576e-3)
    assert walked(copy, work, done).memory_s == pytest.approx(0.648576e-3)
    assert walked(copy, work, done).seconds == pytest.approx(1.048576e-3)


def test_work_that_reads_memory_itself_leaves_less_for_copies() -> None:
    copy = f"%s = ({MEBIBYTE}{{0:S(1)}}, {MEBIBYTE}, u32[]) copy-start(%a)"
    work = f"%w = f32[8]{{0:S(1)}} fusion(%a), kind=kLoop, calls=%f, {CYCLES % 2_000_000}"
    done = f"ROOT %d = {MEBIBYTE}{{0:S(1)}} copy-done(%s)"
    assert walked(copy, work, done).memory_s == pytest.approx(1.048576e-3 - 0.951424e-3)


def test_what_the_run_before_fetched_is_there() -> None:
    copy = f"%s = ({MEBIBYTE}{{0:S(1)}}, {MEBIBYTE}, u32[]) copy-start(%a), cross_program_prefetch_index=0"
    done = f"%d = {MEBIBYTE}{{0:S(1)}} copy-done(%s)"
    assert walked(copy, done, "ROOT %t = () tuple()").seconds == 0.0
    again = f"%n = ({MEBIBYTE}{{0:S(1)}}, {MEBIBYTE}, u32[]) copy-start(%a)"  # for the run after it
    end = f"ROOT %e = {MEBIBYTE}{{0:S(1)}} copy-done(%n)"
    assert walked(copy, done, again, end).memory_s == pytest.approx(1.048576e-3)


def product(rows: int, *, more: str = "", space: str = "") -> Walked:
    """Walk a product of `rows` with a weight of 1024 x 1024 numbers of four bytes: 4.19 ms of reading, 10 by cycles."""
    weight = f"f32[1024,1024]{space}"
    inner = (
        f"\n%mul (p: f32[{rows},1024], q: {weight}) -> f32[{rows},1024] {{\n"
        f"  %p = f32[{rows},1024]{{1,0:S(1)}} parameter(0)\n"
        f"  %q = {weight} parameter(1)\n"
        f"  ROOT %o = f32[{rows},1024]{{1,0:S(1)}} convolution(%p, %q), {more}dim_labels=bf_io->bf\n}}\n"
    )
    text = module(
        f"%a = f32[{rows},1024]{{1,0:S(1)}} parameter(0)",
        f"%w = {weight} parameter(1)",
        f"ROOT %f = f32[{rows},1024]{{1,0:S(1)}} fusion(%a, %w), kind=kOutput, calls=%mul, {CYCLES % 10_000_000}",
        more=inner,
    )
    return walk(text, PACE)


def test_a_product_bound_by_its_weight_takes_what_reading_takes() -> None:
    assert product(8).seconds == pytest.approx(1024 * 1024 * 4 / 1e9)
    # 2 x 4096 x 1024 x 1024 operations take 8.6 ms at the arrays' peak: more than reading, so the cycles stand.
    assert product(4096).seconds == pytest.approx(0.01)
    # A weight that lies in the core's memory, and a product batched over slots, are at their cycles.
    assert product(8, space="{1,0:S(1)}").seconds == pytest.approx(0.01)
    assert product(8, more="window={size=16 stride=15 lhs_dilate=16}, ").seconds == pytest.approx(0.01)


def test_cycles_fewer_than_reading_takes_are_left_alone() -> None:
    found = walked(f"ROOT %c = f32[8]{{0:S(1)}} fusion(%a), kind=kLoop, calls=%g, {CYCLES % 2000}")
    assert found.seconds == pytest.approx(2e-6)


def test_a_loop_takes_its_trips() -> None:
    def timed(trips: int) -> float:
        text = counted(0, 1, trips, "LT")
        body = text.computations["body"]
        work = module(f"ROOT %w = f32[8]{{0:S(1)}} fusion(%v), kind=kLoop, calls=%f, {CYCLES % 1000}").entry.root
        fuller = type(body)(body.name, (*body.instructions, work), body.by_name, body.root)
        return walk(Module({**text.computations, "body": fuller}, text.entry), PACE).seconds

    assert timed(3) == pytest.approx(3e-6)
    assert timed(50) == pytest.approx(50e-6)


def test_an_asynchronous_collective_is_hidden_by_work() -> None:
    start = "%s = (f32[8], f32[8]) all-gather-start(%x), replica_groups={{0,1,2,3}}"
    work = f"%w = f32[8]{{0:S(1)}} fusion(%v), kind=kLoop, calls=%f, {CYCLES % 100_000}"
    done = "ROOT %d = f32[8] all-gather-done(%s)"
    assert walked(start, done).links_s == pytest.approx(2 * HOP_S)
    assert walked(start, work, done).links_s == 0.0


def test_a_custom_call_without_a_price_is_told() -> None:
    found = walked(f'ROOT %c = {MEBIBYTE} custom-call(%a), custom_call_target="tpu_custom_call"')
    assert found.unpriced == ("tpu_custom_call",)
    assert found.memory_s == pytest.approx(2 * 1.048576e-3 + 1e-6)


def test_a_loop_on_data_counts_once_and_is_told() -> None:
    found = walk(compiled("loop_on_data_tpu_v6e"), PACE)
    assert len(found.unknown_loops) == 1
    assert found.seconds > 0


def test_the_parts_of_a_real_step_sum_to_the_whole() -> None:
    found = walk(compiled("decode_tpu_v5e_4_chips"), PACE)
    assert found.cores_s + found.memory_s + found.links_s == pytest.approx(found.seconds)
    assert found.links_s > 2 * 2 * 2 * HOP_S  # two all-reduces of two hops there and back, at least
    assert found.unpriced == ()


def test_the_slower_branch_counts() -> None:
    fast = f"\n%fast (p: f32[8]) -> f32[8] {{\n  ROOT %u = f32[8]{{0:S(1)}} fusion(%p), calls=%f, {CYCLES % 1000}\n}}\n"
    slow = f"\n%slow (p: f32[8]) -> f32[8] {{\n  ROOT %u = f32[8]{{0:S(1)}} fusion(%p), calls=%f, {CYCLES % 7000}\n}}\n"
    text = module(
        "%a = pred[] parameter(0)",
        "ROOT %c = f32[8] conditional(%a, %a, %a), branch_computations={%fast, %slow}",
        more=fast + slow,
    )
    assert walk(text, PACE).seconds == pytest.approx(7e-6)
