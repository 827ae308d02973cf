import pytest

from secondsource.port.hlo import Module
from secondsource.port.loops import trip_count
from tests.unit.port.texts import compiled, module


def only_loop(text: Module) -> int | None:
    loops = [instruction for instruction in text.entry.instructions if instruction.opcode == "while"]
    assert len(loops) == 1
    return trip_count(text, text.entry, loops[0])


def test_a_counted_loop_of_the_compiler() -> None:
    assert only_loop(compiled("loop_of_7_tpu_v6e")) == 7


def test_a_loop_that_depends_on_data_is_unknown() -> None:
    assert only_loop(compiled("loop_on_data_tpu_v6e")) is None


def counted(start: int, step: int, limit: int, direction: str) -> Module:
    pair = "(s32[], f32[8])"
    more = f"""
%condition (p: {pair}) -> pred[] {{
  %p = {pair} parameter(0)
  %limit = s32[] constant({limit})
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %on = pred[] compare(%i, %limit), direction={direction}
}}

%body (q: {pair}) -> {pair} {{
  %q = {pair} parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %x = f32[8] get-tuple-element(%q), index=1
  %step = s32[] constant({step})
  %next = s32[] add(%j, %step)
  ROOT %out = {pair} tuple(%next, %x)
}}
"""
    return module(
        "%a = f32[8] parameter(0)",
        f"%start = s32[] constant({start})",
        f"%state = {pair} tuple(%start, %a)",
        f"%loop = {pair} while(%state), condition=%condition, body=%body",
        "ROOT %r = f32[8] get-tuple-element(%loop), index=1",
        more=more,
    )


@pytest.mark.parametrize(
    ("start", "step", "limit", "direction", "trips"),
    [
        (0, 1, 8, "LT", 8),
        (0, 2, 7, "LT", 4),
        (1, 1, 8, "LE", 8),
        (9, -3, 0, "GT", 3),
        (5, 1, 5, "NE", 0),
        (0, 0, 1, "LT", None),
    ],
)
def test_counters(start: int, step: int, limit: int, direction: str, trips: int | None) -> None:
    assert only_loop(counted(start, step, limit, direction)) == trips


def test_what_the_compiler_says_itself_is_taken() -> None:
    text = counted(0, 1, 8, "LT")
    loop = text.entry.by_name["loop"]
    said = type(loop)(
        loop.name, loop.opcode, loop.shapes, loop.operands, loop.operand_text,
        loop.attributes + ', backend_config={"known_trip_count":{"n":"40"}}',
    )  # fmt: skip
    assert trip_count(text, text.entry, said) == 40
