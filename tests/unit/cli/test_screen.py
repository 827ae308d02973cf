"""Progress on a terminal and on anything else."""

import io

from rich.console import Console

from secondsource.cli.screen import Screen


def heard(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    written = io.StringIO()
    return Screen(Console(file=written, force_terminal=terminal, width=100)), written


def test_without_a_terminal_progress_is_a_line_now_and_then_and_at_the_end() -> None:
    screen, written = heard(terminal=False)
    with screen.download("Model"):
        for done in range(0, 101, 10):
            screen.on_bytes(done * 10**6, 100 * 10**6)
    lines = written.getvalue().splitlines()
    assert lines[0].strip() == "0 of 100 MB (0 %)"
    assert lines[-1].strip() == "100 of 100 MB (100 %)"
    assert len(lines) == 2, "the others came within a few milliseconds"


def test_on_a_terminal_progress_is_a_bar() -> None:
    screen, written = heard(terminal=True)
    with screen.download("Model"):
        screen.on_bytes(50 * 10**6, 100 * 10**6)
    assert "Model" in written.getvalue()
    assert "50.0/100.0 MB" in written.getvalue()


def test_a_download_that_never_began_shows_nothing() -> None:
    for terminal in (False, True):
        screen, written = heard(terminal=terminal)
        with screen.download("Model"):
            pass
        assert written.getvalue() == ""


def test_text_is_shown_as_it_is() -> None:
    screen, written = heard(terminal=False)
    screen.say("a [bold]path[/bold] " + "x" * 200)
    assert written.getvalue() == "a [bold]path[/bold] " + "x" * 200 + "\n"


def test_a_step_is_named_where_there_is_no_terminal() -> None:
    screen, written = heard(terminal=False)
    with screen.step("Asking …"):
        pass
    assert written.getvalue() == "Asking …\n"
