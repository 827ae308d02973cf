"""The compiled pump (`pump.c`) as Python calls it."""

import ctypes
from pathlib import Path

COMPILED = Path(__file__).with_name("libpump.so")  # by `hatch_build.py`, when the package is installed


class Told(ctypes.Structure):
    """`struct told`: what has been passed on since it was last asked, and what is held."""

    _fields_ = (
        ("events", ctypes.c_uint64),
        ("last_event_ns", ctypes.c_uint64),
        ("text_bytes", ctypes.c_uint64),
        ("unsent_bytes", ctypes.c_uint64),
        ("unread_bytes", ctypes.c_uint64),
    )


def load_library(compiled: Path = COMPILED) -> ctypes.CDLL | None:
    """Return the library with the types of its functions, or None where it was not compiled."""
    if not compiled.exists():
        return None
    library = ctypes.CDLL(str(compiled))
    pump, stream, number, size = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_size_t
    into, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("pump_text_bytes", size, ()),
        ("pump_held_bytes", size, ()),
        ("pump_longest_event", size, ()),
        ("pump_start", pump, (number,)),
        ("pump_notice", number, (pump,)),
        ("pump_take", stream, (pump, number, number, *(text, size) * 4, size, into)),
        ("pump_next", stream, (pump,)),
        ("pump_tell", number, (pump, stream, into, into)),
        ("pump_leave", number, (pump, stream, into, into, into)),
        ("pump_stop", None, (pump,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
