"""`secondsource port MODEL --chip CHIP`: does it compile, does it fit, how fast, at what price."""

import argparse
import importlib.util
from pathlib import Path

from secondsource.core.errors import InputError


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "port", help="put a model through the compiler of a chip that nobody here has rented"
    )
    parser.add_argument("model", metavar="MODEL", help="a GGUF, a Hugging Face directory, a config.json, a known name")
    chip = parser.add_mutually_exclusive_group(required=True)
    chip.add_argument("--chip", help="tpu-v5e, tpu-v6e, tpu7x, h100-sxm, ...")
    chip.add_argument("--compare", metavar="CHIP,CHIP", help="several chips side by side")
    parser.add_argument("--chips", type=int, help="so many of them; else the fewest that hold the model")
    parser.add_argument("--batch", type=int, help="sequences at once; else 8, or what the limits allow")
    parser.add_argument("--context", type=int, default=4096, help="tokens that a sequence may hold (4096)")
    parser.add_argument("--prompt", type=int, help="of these, tokens of the prompt; else a quarter")
    parser.add_argument("--weights", choices=("bf16", "int8"), default="bf16", help="format of the weights (bf16)")
    parser.add_argument("--cache", choices=("bf16", "int8"), help="format of keys and values; else that of the weights")
    parser.add_argument(
        "--filled",
        type=int,
        metavar="TOKENS",
        help="that each slot holds at the decode step timed; else a prompt and half of the answer",
    )
    parser.add_argument("--full-slots", action="store_true", help="time the decode step with every slot full as well")
    parser.add_argument("--data-parallel", type=int, metavar="N", help="copies of the model; else as few as can be")
    parser.add_argument("--ttft", type=float, metavar="S", help="limit of the time to the first token, in seconds")
    parser.add_argument("--tpot", type=float, metavar="S", help="limit of the time per output token, in seconds")
    parser.add_argument("--whole", action="store_true", help="compile every layer instead of carrying on from a few")
    parser.add_argument("--save-executable", type=Path, metavar="DIR", help="keep the compiled programs (all layers)")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="the table as a picture")
    parser.add_argument("--profiles", type=Path, metavar="DIR", help="where the profile is stored for the planner")
    parser.add_argument("--seconds", type=float, default=600.0, help="limit of one run of the compiler (600)")
    parser.add_argument("--json", action="store_true", help="everything as JSON on standard output")
    parser.set_defaults(run=run)


def require_compiler() -> None:
    """Raise InputError where the extra that compiles is not installed."""
    if importlib.util.find_spec("jax") is None:
        raise InputError("porting needs JAX and the chips' compilers: pip install 'secondsource[port]'")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb; JAX is loaded only now, so that other verbs start without it."""
    require_compiler()
    from secondsource.cli import port_run  # noqa: PLC0415 -- see above

    return port_run.run(arguments)
