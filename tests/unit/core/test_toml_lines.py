"""The position index against texts whose lines are known."""

import textwrap

import pytest

from secondsource.core.toml_lines import index_lines, show_path

TEXT = textwrap.dedent('''\
    # a comment with = and [brackets]
    top = "a # no comment"

    [gateway]
    host = \'\'\'
    fake = 1
    [not.a.header]
    \'\'\'
    port = 1  # comment
    [[pools]]
    name = """x \\""" y"""""
    replicas = [ "a", # one ]
      "b, ]",
      { u = 1, v.w = [
        2 ] },
    ]
    [pools.extra]
    deep."quo ted".k = 1979-05-27T07:32:00Z
    [[pools]]
    name = 'second'
    [ suppliers . "my lab" ]
    "uni\\u0063ode" = { x = 1, "y" = "}" }
    [a.b]
    c = 1
    [a]
    d = 2
''')


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("gateway",), 4),
        (("gateway", "host"), 5),
        (("gateway", "port"), 9),
        (("pools",), 10),
        (("pools", 0), 10),
        (("pools", 0, "name"), 11),
        (("pools", 0, "replicas"), 12),
        (("pools", 0, "replicas", 0), 12),
        (("pools", 0, "replicas", 1), 13),
        (("pools", 0, "replicas", 2, "u"), 14),
        (("pools", 0, "replicas", 2, "v", "w", 0), 15),
        (("pools", 0, "extra"), 17),
        (("pools", 0, "extra", "deep", "quo ted", "k"), 18),
        (("pools", 1), 19),
        (("pools", 1, "name"), 20),
        (("suppliers", "my lab"), 21),
        (("suppliers", "my lab", "unicode"), 22),
        (("suppliers", "my lab", "unicode", "y"), 22),
        (("a", "b", "c"), 24),
        (("a",), 25),
        (("a", "d"), 26),
    ],
)
def test_each_key_has_the_line_it_stands_on(path: tuple[str | int, ...], line: int) -> None:
    assert index_lines(TEXT).line_of(path) == line


def test_a_key_that_is_missing_has_the_line_of_the_nearest_outer_key() -> None:
    lines = index_lines(TEXT)
    assert lines.line_of(("pools", 1, "chip", "x")) == 19
    assert lines.line_of(("nowhere",)) == 1


def test_a_key_given_twice_is_kept_with_both_lines() -> None:
    repeats = index_lines("[a]\nb = 1\n[c]\nb = 1\n[a]\nb = 2\n").repeats
    assert repeats == [(("a",), 1, 5), (("a", "b"), 2, 6)]


def test_an_array_of_tables_repeats_nothing() -> None:
    assert index_lines("[[a]]\nb = 1\n[a.c]\nd = 1\n[[a]]\nb = 1\n[a.c]\nd = 1\n").repeats == []


@pytest.mark.parametrize(
    "text", ["a = ", 'a = "', "[a", "[[a]", "a", "= 1", "a = [1, ", "a = {b", '"\\q" = 1', "a = [" * 200]
)
def test_what_stands_before_a_fault_is_still_found(text: str) -> None:
    assert index_lines(f"first = 1\n{text}").line_of(("first",)) == 1


def test_paths_are_shown_as_a_person_writes_them() -> None:
    assert show_path(("pools", 0, "replicas", 2)) == "pools[0].replicas[2]"
    assert show_path(("suppliers", "my lab", "a\nb")) == 'suppliers."my lab"."a\\nb"'
