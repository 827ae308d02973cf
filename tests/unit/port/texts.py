"""The compiler's own texts, made by libtpu 0.0.42.1 from the portable model; metadata cut out."""

from pathlib import Path

from secondsource.port.hlo import Module, parse_module


def compiled(name: str) -> Module:
    return parse_module((Path(__file__).parent / "hlo" / f"{name}.txt").read_text("utf-8"))


def module(*lines: str, more: str = "") -> Module:
    """Return a module with these lines as its entry."""
    body = "\n".join(f"  {line}" for line in lines)
    return parse_module(f"HloModule made_here\n\n{more}\nENTRY %main (a: f32[8]) -> f32[8] {{\n{body}\n}}\n")
