"""Read a TOML text strictly: every fault is found in one pass and named by file, line and key.

A reader asks a `Table` for the keys it knows. A fault is reported to the `Document`, a stand-in of the right type
takes the value's place so that reading goes on, and `Document.finish` raises all that was reported. Real numbers
come as `Decimal`, so that money is exact.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TypeVar

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.rules import Refusal, Rule, describe
from secondsource.core.toml_lines import KeyPath, TomlLines, index_lines, printable, show_path

Value = TypeVar("Value")
Default = TypeVar("Default")

_SYNTAX_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing wrong with a text: the line from 1, the key, and what to do about it."""

    line: int
    key: str
    message: str


class Document:
    """A TOML text being read, and what is wrong with it; `origin` is the name that errors give it.

    Raises `InputError` at once where the text is not TOML at all.
    """

    def __init__(self, text: str, origin: str) -> None:
        text = text.replace("\r\n", "\n")
        self._origin = origin
        self._faults: list[Fault] = []
        self._faulty: set[KeyPath] = set()
        self._lines = index_lines(text)
        self.root = Table(self, (), self._parse(text))

    def report(self, path: KeyPath, message: str) -> None:
        """Keep one fault at `path`; further ones there or below it would only follow from the first."""
        if not any(path[:length] in self._faulty for length in range(len(path) + 1)):
            self._faulty.add(path)
            self._faults.append(Fault(self._lines.line_of(path), show_path(path), message))

    def finish(self) -> None:
        """Raise everything reported as one `InputError`, a fault a line, in the order of the text."""
        if self._faults:
            raise InputError("\n".join(self._shown(fault) for fault in sorted(self._faults)))

    def _shown(self, fault: Fault) -> str:
        key = f"{fault.key}: " if fault.key else ""
        return f"{self._origin}:{fault.line}: {key}{fault.message}"

    def _parse(self, text: str) -> dict[str, object]:
        try:
            return tomllib.loads(text, parse_float=_decimal)
        except tomllib.TOMLDecodeError as error:
            self._faults += _repeats(self._lines)
            if not self._faults or not str(error).startswith("Cannot "):  # overwrite, declare twice
                self._faults.append(_syntax_fault(str(error), text))
        except RecursionError:
            self._faults.append(Fault(1, "", "not valid TOML: nested too deeply; write it flatter"))
        except ValueError as error:  # an integer of thousands of digits
            self._faults.append(Fault(1, "", f"not valid TOML: {error}"))
        self.finish()
        return {}


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")  # an exponent beyond all bounds: refused as a number at its own key


def _repeats(lines: TomlLines) -> list[Fault]:
    return [
        Fault(second, show_path(path), f"given twice, first on line {first}; keep one")
        for path, first, second in lines.repeats
    ]


def _syntax_fault(message: str, text: str) -> Fault:
    place = _SYNTAX_PLACE.search(message)
    line, where = text.rstrip().count("\n") + 1, "at the end of the file"
    if place and place[1]:
        line, where = int(place[1]), f"at column {place[2]}"
    said = printable(message[: place.start()] if place else message)
    return Fault(line, "", f"not valid TOML {where}: {said}; see https://toml.io/en/v1.0.0")


class Table:
    """One table of a document; asking for a key is what makes the key known."""

    def __init__(self, document: Document, path: KeyPath, values: Mapping[str, object]) -> None:
        self._document = document
        self._path = path
        self._values = values
        self._known: list[str] = []

    def report(self, key: str, message: str) -> None:
        """Report a fault at one of this table's keys."""
        self._document.report((*self._path, key), message)

    def required(self, key: str, rule: Rule[Value]) -> Value:
        """Return the key's value, which the text must give."""
        value = self._get(key)
        if value is None:
            self.report(key, f"missing; add {key} = {rule.example}")
            return rule.stand_in
        return self._accepted((key,), rule, value)

    def optional(self, key: str, rule: Rule[Value], default: Default) -> Value | Default:
        """Return the key's value, or `default` where the text does not give it."""
        value = self._get(key)
        return default if value is None else self._accepted((key,), rule, value)

    def several(self, key: str, rule: Rule[Value]) -> tuple[Value, ...]:
        """Return the elements of an array, which the text must give and must not be empty."""
        values = self._get(key)
        if not isinstance(values, list) or not values:
            got = "nothing" if values is None else "an empty one" if values == [] else describe(values)
            self.report(key, f"expected an array of at least one, got {got}; write {key} = [{rule.example}]")
            return ()
        return tuple(self._accepted((key, place), rule, value) for place, value in enumerate(values))

    def table(self, key: str) -> "Table":
        """Return the table at `key`, empty where the text does not give it."""
        value = self._get(key)
        if value is not None and not isinstance(value, dict):
            self.report(key, f"expected a table, got {describe(value)}; write [{show_path((*self._path, key))}]")
        return Table(self._document, (*self._path, key), value if isinstance(value, dict) else {})

    def tables(self, key: str) -> "tuple[Table, ...]":
        """Return the array of tables at `key`, empty where the text does not give it."""
        values = self._get(key)
        header = f"[[{show_path((*self._path, key))}]]"
        if values is not None and not isinstance(values, list):
            self.report(key, f"expected tables, got {describe(values)}; write {header} above each")
        tables: list[Table] = []
        for place, value in enumerate(values if isinstance(values, list) else ()):
            path = (*self._path, key, place)
            if not isinstance(value, dict):
                self._document.report(path, f"expected a table, got {describe(value)}; write {header}")
            tables.append(Table(self._document, path, value if isinstance(value, dict) else {}))
        return tuple(tables)

    def named_tables(self, key: str, rule: Rule[str]) -> "tuple[tuple[str, Table], ...]":
        """Return the tables below the table at `key` with their names, each of which must keep `rule`."""
        outer = self.table(key)
        for name in outer._values:
            accepted = rule.accept(name)
            if isinstance(accepted, Refusal):
                outer.report(name, accepted.message)
        return tuple((name, outer.table(name)) for name in outer._values)

    def refuse(self, keys: Sequence[str], message: str) -> None:
        """Know `keys` by name, and report `message` at each that the text gives."""
        for key in keys:
            if self._get(key) is not None:
                self.report(key, message)

    def finish(self) -> None:
        """Report every key that the text gives and nothing asked for."""
        for key in self._values:
            if key not in self._known:
                self.report(key, f"unknown key; {suggestion(key, self._known)}")

    def _get(self, key: str) -> object:
        self._known.append(key)
        return self._values.get(key)

    def _accepted(self, below: KeyPath, rule: Rule[Value], value: object) -> Value:
        accepted = rule.accept(value)
        if isinstance(accepted, Refusal):
            self._document.report((*self._path, *below), accepted.message)
            return rule.stand_in
        return accepted


def suggestion(given: str, known: Sequence[str]) -> str:
    """Return `did you mean "x"?` for the nearest known word, or else all of them."""
    nearest = get_close_matches(given, known, n=1)
    if nearest:
        return f'did you mean "{nearest[0]}"?'
    return f"known here: {', '.join(known)}" if known else "nothing is known here; remove it"
