"""What `secondsource plan` sees to before it loads the planner."""

import subprocess
import sys

LOADED = """
import os, sys
from secondsource.cli.main import build_parser
from secondsource.cli.plan import multiply_on_one_thread

build_parser()
assert "numpy" not in sys.modules, "it has read how many threads to use already"
multiply_on_one_thread()
print(os.environ["OPENBLAS_NUM_THREADS"])
"""


def printed(threads: str | None) -> str:
    """Return what numpy will read, where the user has set so many threads."""
    environment = {} if threads is None else {"OPENBLAS_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", LOADED], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_products_are_on_one_thread_from_the_start() -> None:
    assert printed(None) == "1"


def test_what_the_user_says_stays() -> None:
    assert printed("4") == "4"
