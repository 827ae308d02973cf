"""How soon a browser on this machine paints the console: chromium's own figure, over a gateway with nothing to do.

.venv/bin/python -m benchmarks.console_first_paint [--rounds 3]
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.console_watchers import gateway
from playwright.sync_api import Browser, sync_playwright
from tests.e2e.browser import chromium

from secondsource.benchmarking.stage import replica_ports, urls_of

PAGES = ("chat", "now", "spend", "plan", "requests")
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def first_paint_s(browser: Browser, admin: int, page_name: str) -> float:
    """Return the seconds until something of a page is seen, in a window that has seen nothing of it before."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{admin}/console#/{page_name}")
    page.wait_for_selector(f"main.page-{page_name} h1", state="attached")
    painted = page.wait_for_function(PAINTED).json_value()
    context.close()
    return float(painted) / 1000.0


def main() -> None:
    """Measure, and print a line for each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with (
        replica_ports() as ports,
        tempfile.TemporaryDirectory() as scratch,
        gateway(urls_of(ports), Path(scratch)) as (_, _, admin),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for name in PAGES:
            found = [first_paint_s(browser, admin, name) for _ in range(rounds)]
            sys.stdout.write(f"{name:<9} {statistics.median(found):.2f} s  ({min(found):.2f} to {max(found):.2f})\n")
        browser.close()


if __name__ == "__main__":
    main()
