"""Where each key of a TOML text stands, because `tomllib` gives values without their lines.

This is no second parser. It walks a text that `tomllib` judges, and only far enough to know on which line each
header, key and array element begins. Where it loses its way (a text that is not TOML) it keeps what it has.
"""

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress

KeyPath = tuple[str | int, ...]

_DEEPEST = 64  # nesting beyond which positions are not kept; the nearest outer key's line stands in

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK_OR_COMMA = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)*")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may touch the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def show_path(path: KeyPath) -> str:
    """Return a key path as a person writes it: `pools[0].price`, `suppliers."my lab".max_share`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
            continue
        text = part if _BARE.fullmatch(part) else f'"{printable(part)}"'
        shown += f".{text}" if shown else text
    return shown


def printable(text: str) -> str:
    """Return `text` with every character that a terminal would not show as itself escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class _LostError(Exception):
    """The text is not TOML at this point."""


class TomlLines:
    """The line, counted from 1, on which each key path of a TOML text begins; built by `index_lines`."""

    def __init__(self) -> None:
        self._lines: dict[KeyPath, int] = {(): 1}
        self._given: set[KeyPath] = set()
        self.repeats: list[tuple[KeyPath, int, int]] = []  # path, first line, second line

    def line_of(self, path: KeyPath) -> int:
        """Return the line of `path`, or of the nearest outer key that the text has, or 1."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def note(self, path: KeyPath, line: int) -> None:
        """Keep `line` as the place where `path` and every outer key not seen before begin."""
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def define(self, path: KeyPath, line: int) -> None:
        """Note a header or a key that may be given only once."""
        if path in self._given:
            self.repeats.append((path, self._lines[path], line))
        elif path in self._lines:
            self._lines[path] = line  # `[a]` after `[a.b]`: its own header is the better place
        self._given.add(path)
        self.note(path, line)


def index_lines(text: str) -> TomlLines:
    """Return where the keys of `text` stand; never raises, whatever the text."""
    walk = _Walk(text)
    with suppress(_LostError):  # what was found until here is still right, and `tomllib` names the fault
        walk.statements()
    return walk.lines


class _Walk:
    """One pass over a text, statement by statement."""

    def __init__(self, text: str) -> None:
        self.lines = TomlLines()
        self._text = text
        self._at = 0
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._array_sizes: dict[KeyPath, int] = {}  # of arrays of tables

    def statements(self) -> None:
        base: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[", self._at):
                base = self._header()
            else:
                self._key_and_value(base)

    def _header(self) -> KeyPath:
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        self._skip(_BLANK)
        path = self._resolve(self._dotted_key())
        if brackets == 1:
            self.lines.define(path, line)
        else:
            element = self._array_sizes.get(path, 0)
            self._array_sizes[path] = element + 1
            path = (*path, element)
            self.lines.note(path, line)
        self._expect("]" * brackets)
        return path

    def _resolve(self, dotted: KeyPath) -> KeyPath:
        """Return a header's path with the current element of each array of tables that it passes through."""
        path: KeyPath = ()
        for part in dotted:
            if path in self._array_sizes:
                path = (*path, self._array_sizes[path] - 1)
            path = (*path, part)
        return path

    def _key_and_value(self, base: KeyPath) -> None:
        line = self._line()
        path = base + self._dotted_key()
        self._take(_EQUALS)
        self.lines.define(path, line)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if len(path) > _DEEPEST:
            raise _LostError
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in {'"', "'"}:
            self._take(_STRING)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        element = 0
        while self._skip(_BLANK_OR_COMMA) < len(self._text):
            if self._text.startswith("]", self._at):
                self._at += 1
                return
            self.lines.note((*path, element), self._line())
            self._value((*path, element))
            element += 1
        raise _LostError

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip(_BLANK_OR_COMMA) < len(self._text):
            if self._text.startswith("}", self._at):
                self._at += 1
                return
            self._key_and_value(path)
        raise _LostError

    def _dotted_key(self) -> KeyPath:
        parts: list[str] = []
        while True:
            parts.append(_unquoted(self._take(_KEY_PART)))
            if len(parts) > _DEEPEST:
                raise _LostError
            if not (dot := _DOT.match(self._text, self._at)):
                return tuple(parts)
            self._at = dot.end()

    def _line(self) -> int:
        return bisect_right(self._line_starts, self._at)

    def _skip(self, blank: re.Pattern[str]) -> int:
        if found := blank.match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise _LostError
        self._at = found.end()
        return found.group()

    def _expect(self, literal: str) -> None:
        self._skip(_BLANK)
        if not self._text.startswith(literal, self._at):
            raise _LostError
        self._at += len(literal)


def _unquoted(part: str) -> str:
    if part[0] == "'" or (part[0] == '"' and "\\" not in part):
        return part[1:-1]
    if part[0] != '"':
        return part
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except tomllib.TOMLDecodeError:
        raise _LostError from None
