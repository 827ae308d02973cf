"""The scheduler is fair, bounded, and frees what nobody needs at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.engine.service.scheduler import Decode, Load, Prefill, Scheduler


def scheduler(*, slots: int = 2, chunk: int = 4) -> Scheduler:
    return Scheduler(slots=slots, chunk_tokens=chunk)


def test_a_prompt_is_read_in_chunks_and_then_decoded() -> None:
    one = scheduler()
    assert one.next() is None
    one.submit(7, 9)
    assert one.next() == Prefill(7, 0, 0, 4, last=False)
    assert one.next() == Prefill(7, 0, 4, 8, last=False)
    assert one.next() == Prefill(7, 0, 8, 9, last=True)
    assert one.next() == Decode(((0, 7),))
    assert one.next() == Decode(((0, 7),))


def test_running_answers_get_a_token_between_two_chunks_of_a_long_prompt() -> None:
    one = scheduler()
    one.submit(1, 2)
    one.next()
    one.submit(2, 12)
    work = [one.next() for _ in range(7)]
    assert work == [
        Decode(((0, 1),)),
        Prefill(2, 1, 0, 4, last=False),
        Decode(((0, 1),)),
        Prefill(2, 1, 4, 8, last=False),
        Decode(((0, 1),)),
        Prefill(2, 1, 8, 12, last=True),
        Decode(((0, 1), (1, 2))),
    ]


def test_requests_wait_in_order_of_arrival() -> None:
    one = scheduler(slots=1)
    for request in (1, 2, 3):
        one.submit(request, 1)
    assert one.next() == Prefill(1, 0, 0, 1, last=True)
    assert one.load == Load(waiting=2, running=1)
    assert one.remove(1) == 0
    assert one.next() == Prefill(2, 0, 0, 1, last=True)


def test_who_leaves_frees_its_slot_at_once_wherever_it_is() -> None:
    one = scheduler(slots=2, chunk=4)
    one.submit(1, 1)
    one.next()  # 1 runs in slot 0
    one.submit(2, 20)
    one.next()
    one.next()  # 2 reads in slot 1
    one.submit(3, 1)
    assert one.remove(3) is None  # it only waited
    assert one.remove(2) == 1
    assert one.remove(1) == 0
    assert one.remove(1) is None  # nothing twice
    assert one.load == Load(waiting=0, running=0)
    assert one.next() is None


@settings(max_examples=150)
@given(
    slots=st.integers(1, 4),
    chunk=st.integers(1, 9),
    events=st.lists(st.tuples(st.sampled_from(["submit", "remove", "next"]), st.integers(0, 11)), max_size=120),
)
def test_every_prompt_is_read_once_in_order_and_no_slot_has_two_owners(
    slots: int, chunk: int, events: list[tuple[str, int]]
) -> None:
    one = scheduler(slots=slots, chunk=chunk)
    lengths: dict[int, int] = {}
    read: dict[int, int] = {}
    gone: set[int] = set()
    fresh = 0
    for event, number in events:
        if event == "submit":
            one.submit(fresh, number + 1)
            lengths[fresh], read[fresh] = number + 1, 0
            fresh += 1
        elif event == "remove" and number in lengths:
            one.remove(number)
            gone.add(number)
        elif event == "next":
            work = one.next()
            if isinstance(work, Prefill):
                assert work.request not in gone
                assert (work.start, work.end - work.start <= chunk) == (read[work.request], True)
                read[work.request] = work.end
                assert work.last == (work.end == lengths[work.request])
            elif isinstance(work, Decode):
                assert len({slot for slot, _ in work.running}) == len(work.running) <= slots
                assert all(read[request] == lengths[request] and request not in gone for _, request in work.running)
            else:
                assert one.load.waiting == one.load.running == 0
    assert one.load.running <= slots
    one.next()
    assert one.load.waiting == 0 or one.load.running == slots, "one waits beside a free slot"
