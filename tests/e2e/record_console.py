"""Makes the README's picture from the real thing: `secondsource up`, a chat, a plug pulled in mid-answer.

    python -m tests.e2e.record_console docs/pictures/plug.webp

It needs chromium and Pillow (`pip install pillow`, in no lock file: nothing else uses it). The pictures are taken while
the answer comes, and played at the pace they were taken.
"""

import asyncio
import io
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.e2e.browser import chromium
from tests.e2e.test_kill_a_source import embedded_default

SIZE = {"width": 1060, "height": 660}
PROMPT = "Tell me a story about a lighthouse keeper."
TOKENS = "115"
PULL_AFTER = 230  # characters of the answer
HOLD_S = 2.5  # on what came of it
SHORTEST_S = 0.08
QUALITY = 78  # of 100: text stays sharp, and the picture under a megabyte


@dataclass
class Film:
    """Frames, and when each was taken."""

    page: Page
    frames: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    async def frame(self) -> None:
        """Take one picture."""
        self.at.append(time.monotonic())
        self.frames.append(await self.page.screenshot(type="png"))

    def write(self, path: Path) -> None:
        """Write an animation that loops."""
        images = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in self.frames]
        lasts = [max(SHORTEST_S, after - before) for before, after in zip(self.at, self.at[1:], strict=False)]
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=[int(seconds * 1000) for seconds in [*lasts, HOLD_S]],
            loop=0,
            quality=QUALITY,
            method=4,
        )


async def record(page: Page, admin_url: str) -> Film:
    """Ask, pull the plug of whoever answers, and wait for the end."""
    film = Film(page)
    await page.goto(f"{admin_url}/console#/chat")
    message = page.get_by_label("Message")
    await expect(page.locator("#live")).to_have_text("live")
    await page.get_by_label("Most tokens").fill(TOKENS)
    await page.get_by_label("Temperature").fill("0")
    await message.fill(PROMPT)
    await film.frame()
    await message.press("Enter")
    words, pulled = page.locator(".words"), False
    while not await ended(page):
        await film.frame()
        if not pulled and len(await words.inner_text()) > PULL_AFTER:
            supplier = (await page.locator(".tag").first.inner_text()).partition(" ")[0]
            await page.get_by_role("switch", name=supplier).click()
            pulled = True
        await asyncio.sleep(0.1)
    await expect(page.locator(".attempts li")).to_have_count(2)
    await film.frame()
    await expect(page.locator(".made")).to_have_count(2)
    return film


async def ended(page: Page) -> bool:
    """Return whether the answer is over."""
    button: Locator = page.get_by_role("button", name=re.compile("Regenerate"))
    return await button.count() > 0


async def film_of() -> Film:
    """Serve, and record."""
    with tempfile.TemporaryDirectory() as directory:
        async with embedded_default(Path(directory), "llamacpp") as embedded, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = await browser.new_page(viewport=SIZE, color_scheme="light")
            film = await record(page, embedded.admin)
            await browser.close()
    return film


def main(path: Path) -> None:
    """Make the picture."""
    film = asyncio.run(film_of())
    path.parent.mkdir(parents=True, exist_ok=True)
    film.write(path)
    print(f"{path}: {len(film.frames)} frames, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
