from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.workload.trace import Format, detect_format, read_trace

FILES = {
    Format.AZURE: "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,110,27\n",
    Format.BURSTGPT: "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,4808,10,4818,Conversation log\n6,GPT-4,110,27,137,API log\n",
    Format.MOONCAKE: '{"timestamp": 0, "input_length": 4808, "output_length": 10, "hash_ids": [1]}\n'
    '{"timestamp": 52, "input_length": 110, "output_length": 27, "hash_ids": []}\n',
    Format.PLAIN: "t_s,input_tokens,output_tokens\n0.5,4808,10\n0.75,110,27\n",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", list(Format))
def test_each_public_format_is_found_and_read(tmp_path: Path, form: Format) -> None:
    path = write(tmp_path, FILES[form])
    assert detect_format(path) is form
    rows = list(read_trace(path))
    assert [(row.input_tokens, row.output_tokens) for row in rows] == [(4808, 10), (110, 27)]
    assert rows[1].t_s > rows[0].t_s


def test_azure_2024_is_read_to_the_microsecond(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.017335+00:00,2399,6\n",
    )
    first, second = read_trace(path)
    assert second.t_s - first.t_s == pytest.approx(0.007405, abs=1e-6)


def test_failed_requests_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, FILES[Format.BURSTGPT] + "7,ChatGPT,50,0,50,Conversation log\n")
    assert len(list(read_trace(path))) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no known trace format"),
        ("t_s,input_tokens,output_tokens\n0,1,1\n700,1,1\n", r":3: a gap of 700 s .* line 2 .* max_gap_s"),
        ("t_s,input_tokens,output_tokens\n5,1,1\n4,1,1\n", r":3: time runs backwards"),
        ("t_s,input_tokens,output_tokens\n5,-1,1\n", r":2: token counts cannot be negative"),
        ("t_s,input_tokens,output_tokens\n5,x,1\n", r":2: expected t_s,input_tokens,output_tokens"),
        ("t_s,input_tokens,output_tokens\n", "no requests"),
        ('{"timestamp": 1, "input_length": 3}\n', r":1: expected a JSON object"),
    ],
)
def test_a_bad_trace_names_the_line_and_the_remedy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        list(read_trace(write(tmp_path, text)))


def test_a_silence_can_be_declared_real(tmp_path: Path) -> None:
    path = write(tmp_path, "t_s,input_tokens,output_tokens\n0,1,1\n700,1,1\n")
    assert len(list(read_trace(path, max_gap_s=900.0))) == 2
