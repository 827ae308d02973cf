"""Slots kept for a lane whose first tokens come late while others run."""

from secondsource.policy.reserve import CALM_S, Reserve


def taught() -> Reserve:
    """Return one that knows how long the lane's first tokens take with nobody else there."""
    reserve = Reserve()
    for _ in range(20):
        reserve.first_token(0.4, 0.02, 2.0, 4, 0.0)
    return reserve


def test_nothing_is_kept_while_first_tokens_are_in_time() -> None:
    reserve = taught()
    for second in range(100):
        reserve.first_token(0.9, 0.02, 2.0, 4, float(second))
    assert reserve.slots(100.0) == 0


def test_each_late_one_keeps_a_slot_more_once_the_last_step_can_have_told() -> None:
    reserve = taught()
    kept = []
    for at in (10.0, 11.0, 12.5, 15.0, 20.0, 25.0):
        reserve.first_token(1.5, 0.02, 2.0, 4, at)
        kept.append(reserve.slots(at))
    assert kept == [1, 1, 2, 3, 3, 3]  # one slot is always the others'


def test_a_step_of_a_large_fleet_is_a_part_of_it() -> None:
    reserve = taught()
    reserve.first_token(1.5, 0.02, 2.0, 200, 10.0)
    assert reserve.slots(10.0) == 20


def test_a_long_prompt_says_nothing() -> None:
    reserve = taught()
    reserve.first_token(1.9, 0.09, 2.0, 4, 10.0)  # as slow as usual for its length
    assert reserve.slots(10.0) == 0


def test_what_is_late_at_any_load_is_no_reason_to_keep_others_out() -> None:
    reserve = Reserve()
    for second in range(100):
        reserve.first_token(1.8, 0.02, 2.0, 4, float(second))
    assert reserve.slots(100.0) == 0


def test_it_is_given_back_slowly_and_more_slowly_after_a_relapse() -> None:
    reserve = taught()
    reserve.first_token(1.5, 0.02, 2.0, 4, 10.0)
    assert reserve.slots(10.0 + CALM_S - 1.0) == 1
    assert reserve.slots(10.0 + CALM_S) == 0
    reserve.first_token(1.5, 0.02, 2.0, 4, 50.0)
    assert reserve.slots(51.0 + CALM_S) == 1
    assert reserve.slots(50.0 + 2.0 * CALM_S) == 0
