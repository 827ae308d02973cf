import pytest

from secondsource.core.errors import InputError
from secondsource.workload.sizes import learn_classes
from secondsource.workload.trace import Arrival


def arrivals(sizes: list[tuple[int, int]]) -> list[Arrival]:
    return [Arrival(float(i), given, made, i + 2) for i, (given, made) in enumerate(sizes)]


def test_two_plain_groups_are_found_with_exact_means_and_shares() -> None:
    learned = learn_classes(arrivals([(100, 10), (110, 12)] * 30 + [(8000, 500), (9000, 700)] * 10), 2, "chat")
    assert [item.size.name for item in learned] == ["chat-1", "chat-2"]
    assert learned[0].size.input_tokens == pytest.approx(105)
    assert learned[0].size.output_tokens == pytest.approx(11)
    assert learned[1].size.input_tokens == pytest.approx(8500)
    assert [item.share for item in learned] == pytest.approx([0.75, 0.25])


def test_fewer_groups_than_asked_when_there_are_fewer_sizes() -> None:
    assert len(learn_classes(arrivals([(100, 10)] * 5), 4, "x")) == 1


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(InputError, match="no answered request"):
        learn_classes([], 3, "x")
