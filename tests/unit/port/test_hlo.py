import pytest

from secondsource.core.errors import SecondsourceError
from secondsource.port.hlo import Shape, parse_module, read_shapes
from tests.unit.port.texts import compiled


def test_a_compiled_decode_step_is_read_whole() -> None:
    entry = compiled("decode_tpu_v5e_4_chips").entry
    opcodes = [instruction.opcode for instruction in entry.instructions]
    assert opcodes.count("all-reduce") >= 2  # after attention and after the feed-forward
    priced = [instruction.cycles for instruction in entry.instructions if instruction.cycles is not None]
    assert len(priced) > 10
    assert min(priced) > 0
    assert entry.root.opcode == "tuple"


def test_every_operand_of_the_entry_is_known() -> None:
    entry = compiled("decode_tpu_v5e_4_chips").entry
    for instruction in entry.instructions:
        for name in instruction.operands:
            assert name in entry.by_name, (instruction.name, name)


@pytest.mark.parametrize(
    ("text", "shape", "size"),
    [
        ("bf16[8,512]{1,0:T(8,128)(2,1)S(1)}", Shape("bf16", (8, 512), (1, 0), (8, 128), 1), 8192),
        ("f32[8192]{0:T(1024)}", Shape("f32", (8192,), (0,), (1024,), 0), 32768),
        ("s8[3,100]{1,0:T(32,128)(4,1)}", Shape("s8", (3, 100), (1, 0), (32, 128), 0), 32 * 128),
        ("s8[100,3]{0,1:T(32,128)(4,1)}", Shape("s8", (100, 3), (0, 1), (32, 128), 0), 32 * 128),
        ("u32[]{:S(2)}", Shape("u32", (), (), (), 2), 4),
        ("pred[7]", Shape("pred", (7,), (), (), 0), 7),
    ],
)
def test_shapes_count_the_padding_of_their_tiles(text: str, shape: Shape, size: int) -> None:
    assert list(read_shapes(text)) == [shape]
    assert shape.bytes == size


def test_a_tuple_is_its_arrays() -> None:
    shapes = list(read_shapes("(s32[8]{0:T(128)}, bf16[2,3], /*index=2*/u32[]{:S(2)})"))
    assert [shape.dtype for shape in shapes] == ["s32", "bf16", "u32"]


def test_a_text_without_an_entry_is_refused() -> None:
    with pytest.raises(SecondsourceError, match="no entry"):
        parse_module("HloModule empty\n")
