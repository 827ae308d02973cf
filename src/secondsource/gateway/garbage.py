"""Garbage collection of a process that serves: what is done with is freed at once, so cycles are few; pauses matter."""

import gc

LOOKED_AT_ONCE = 2_000  # new objects: about a millisecond; an answer under way is some hundred of them
YOUNG_PASSES = 500  # before those that outlived them are looked at again: a million new objects


def collect_in_short_passes() -> None:
    """Leave alone what was loaded until now, and look for cycles among a few new objects at a time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(LOOKED_AT_ONCE, YOUNG_PASSES, 50)
