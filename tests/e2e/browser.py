"""A real browser for the console's tests: Debian's chromium, driven by Playwright, and what it complains of."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARTEFACTS = Path(os.environ.get("SECONDSOURCE_ARTEFACTS", Path(__file__).resolve().parents[2] / "artefacts"))
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
PATIENCE_MS = 20_000


def chromium() -> str:
    """Return the browser's path; skips, and says so, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("NO BROWSER: the console is not tested here; apt-get install chromium")
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """Run a browser without a window."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Window:
    """A page, and what the browser said against it."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def go(self, admin_url: str, name: str) -> None:
        """Show one of the console's pages, and wait for its title."""
        self.page.goto(f"{admin_url}/console#/{name}")
        self.page.wait_for_selector(f"main.page-{name.partition('?')[0]} h1", state="attached", timeout=PATIENCE_MS)

    def keep(self, name: str) -> None:
        """Keep a picture of the whole page, for people to look at."""
        directory = ARTEFACTS / "console"
        directory.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(directory / f"{name}.png"), full_page=True)


@contextmanager
def window(browser: Browser, scheme: str = "light", size: dict[str, int] | None = None) -> Iterator[Window]:
    """Open a window of its own: nothing is kept from one to the next."""
    context = browser.new_context(color_scheme=scheme, viewport=size or DESK)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    found = Window(context.new_page())
    found.page.on(
        "console", lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    yield found
    context.close()
