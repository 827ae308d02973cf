"""Change one key of a SPEC's text: `a.b=c`, so that the changed SPEC is read and checked like any other."""

import re
import tomllib

from secondsource.core.errors import InputError
from secondsource.core.toml_lines import KeyPath, index_lines


def change(text: str, what: str) -> str:
    """Return the SPEC's text with one key given another value.

    The key is a path such as `suppliers.azure.max_share`, with numbers from 0 for the elements of an array
    of tables (`lanes.0.survive`); the value is TOML, or a bare text. Raises InputError where it cannot be done.
    """
    key, equals, value = what.partition("=")
    path: KeyPath = tuple(int(part) if part.isdigit() else part for part in key.strip().split("."))
    if not equals or not key.strip():
        raise InputError(f"--what-if {what!r}: expected a key and a value, such as suppliers.azure.max_share=0.3")
    written = _as_toml(value.strip())
    lines = text.replace("\r\n", "\n").split("\n")
    found = _at(tomllib.loads(text), path)
    name = str(path[-1])
    if found is not None:
        return _replaced(lines, index_lines(text).line_of(path), name, written, what)
    if _at(tomllib.loads(text), path[:-1]) is not None and len(path) > 1:
        at = index_lines(text).line_of(path[:-1])
        return "\n".join([*lines[:at], f"{name} = {written}", *lines[at:]])
    if any(isinstance(part, int) for part in path):
        raise InputError(f"--what-if {what!r}: the SPEC has no {'.'.join(map(str, path[:-1]))}")
    table = ".".join(str(part) for part in path[:-1])
    return "\n".join([*lines, *([f"[{table}]"] if table else []), f"{name} = {written}", ""])


def _as_toml(value: str) -> str:
    try:
        tomllib.loads(f"x = {value}")
    except tomllib.TOMLDecodeError:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def _at(tree: object, path: KeyPath) -> object:
    for part in path:
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return None
    return tree


def _replaced(lines: list[str], line: int, name: str, value: str, what: str) -> str:
    old = lines[line - 1]
    whole = r"([^\s,#}\[\]\"][^,#}\[\]]*|\"[^\"]*\"|\[[^\[\]]*\])"  # a bare value, a text, a flat array
    found = re.match(rf"(.*?\b{re.escape(name)}\"?\s*=\s*){whole}(.*)", old)
    if found is None:
        raise InputError(
            f"--what-if {what!r}: line {line} of the SPEC does not hold the whole of {name}; change it there"
        )
    changed = f"{found[1]}{value} {found[3]}".rstrip()
    return "\n".join([*lines[: line - 1], changed, *lines[line:]])
