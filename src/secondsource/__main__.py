"""Lets `python -m secondsource` stand for the `secondsource` command."""

import sys

from secondsource.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
