"""The console in a real browser over a real gateway: what a person sees, does, and is told."""

import hashlib
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.browser import DESK, PATIENCE_MS, PHONE, browsing, window
from tests.faults.conftest import MakeWall, gateways_under, walls_of
from tests.faults.harness import Gateway, Keys, Pool, restart
from tests.faults.wall import WallThread

PAGES = ("chat", "now", "spend", "plan", "requests")
PROMPT = "Tell me of lamps. bytes=600"
PACE_S = 0.02
ADMIN_KEY = "sk-ss-the-operators"
GRAVE = ("serious", "critical")
LANES = '[[lanes]]\nname = "paid"\nttft_s = 5.0\ntpot_s = 1.0\n[[lanes]]\nname = "free"\npriority = 10\n'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def walls(wall_thread: WallThread) -> Iterator[MakeWall]:
    with walls_of(wall_thread) as make:
        yield make


@pytest.fixture(scope="module")
def gateway(walls: MakeWall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateways_under(tmp_path_factory.mktemp("console")) as make:
        yield make(*pools(walls), extra=LANES)


def pools(make_wall: MakeWall) -> tuple[Pool, ...]:
    walls = make_wall(pace=PACE_S), make_wall(pace=PACE_S)
    return tuple(
        Pool(f"{name}-pool", (wall,), supplier=name) for name, wall in zip(("azure", "gcp"), walls, strict=True)
    )


def asked(gateway: Gateway, path: str) -> Any:
    with urllib.request.urlopen(gateway.admin_url + path, timeout=10) as answer:
        return json.load(answer)


def answered(gateway: Gateway, prompt: str) -> str:
    """What the service says to a prompt when nothing is in its way."""
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], "max_tokens": 400}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def say(page: Page, text: str = PROMPT) -> Locator:
    """Send a message; returns the answer, which has begun."""
    before = page.locator("article.answer").count()
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")
    answer = page.locator("article.answer").nth(before)
    expect(answer.locator(".words")).to_have_text(re.compile(".{40}", re.DOTALL), timeout=PATIENCE_MS)
    return answer


def test_an_answer_goes_on_in_another_colour_when_its_suppliers_plug_is_pulled(
    browser: Browser, gateway: Gateway
) -> None:
    undisturbed = answered(gateway, PROMPT)
    with window(browser) as seen:
        seen.go(gateway.admin_url, "chat")
        page = seen.page
        answer = say(page)
        first = answer.locator(".tag").first.inner_text().partition(" ")[0]
        switch = page.get_by_role("switch", name=first)
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        expect(answer.get_by_role("button", name="Regenerate")).to_be_visible()
        expect(answer.locator(".attempts li")).to_have_count(2)

        made = answer.locator(".made")
        assert made.count() == 2
        assert "".join(made.all_inner_texts()).strip() == undisturbed.strip()
        colours = made.evaluate_all("(parts) => parts.map((part) => getComputedStyle(part).backgroundColor)")
        assert colours[0] != colours[1]
        facts = answer.locator(".facts").inner_text()
        assert re.search(r"TTFT [\d.]+ (ms|s)", facts)
        assert re.search(r"[\d.]+ tokens/s", facts)
        assert "$" in facts
        assert "2 attempts" in facts
        assert "unplugged" in answer.locator(".attempts li").first.inner_text()
        seen.keep("chat-plug-pulled")

        suppliers = asked(gateway, "/admin/suppliers")["suppliers"]
        assert [one["plugged"] for one in suppliers if one["name"] == first] == [False]
        second = say(page, "And of candles? bytes=100")
        expect(second.get_by_role("button", name="Regenerate")).to_be_visible()
        assert second.locator(".tag").count() == 1
        assert first not in second.locator(".tag").inner_text()
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "true")
        assert seen.complaints == []


def test_an_answer_is_stopped_made_again_and_copied(browser: Browser, gateway: Gateway) -> None:
    with window(browser) as seen:
        seen.go(gateway.admin_url, "chat")
        page = seen.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        say(page)
        page.keyboard.press("Escape")
        expect(page.locator(".facts")).to_contain_text("stopped")
        cut = page.locator(".words").inner_text()
        page.get_by_label("Temperature").fill("0.3")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("article.answer")).to_have_count(1)
        expect(page.locator(".words")).to_have_text(re.compile(f".{{{len(cut) + 20}}}", re.DOTALL), timeout=PATIENCE_MS)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Copy as curl").click()
        curl = page.evaluate("navigator.clipboard.readText()")
        assert curl.startswith(f"curl -N '{gateway.url}/v1/chat/completions'")
        assert '"temperature":0.3' in curl
        page.get_by_role("button", name="Copy as Python").click()
        expect(page.get_by_role("button", name="Copied").last).to_be_visible()
        python = page.evaluate("navigator.clipboard.readText()")
        compile(python, "copied", "exec")
        assert f'base_url="{gateway.url}/v1"' in python
        assert seen.complaints == []


def test_a_chat_is_asked_in_the_lane_that_was_picked(browser: Browser, gateway: Gateway) -> None:
    with window(browser) as seen:
        seen.go(gateway.admin_url, "chat")
        for lane in ("free", "paid"):
            seen.page.get_by_label("Lane").select_option(lane)
            answer = say(seen.page, f"In the lane {lane}. bytes=100")
            expect(answer.get_by_role("button", name="Regenerate")).to_be_visible(timeout=PATIENCE_MS)
        assert seen.complaints == []
    lines = (gateway.state_dir / "requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["lane"] for line in lines[-2:]] == ["free", "paid"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_in_both_themes_without_a_complaint(browser: Browser, gateway: Gateway, scheme: str) -> None:
    answered(gateway, "bytes=50")
    with window(browser, scheme) as seen:
        for name in PAGES:
            seen.go(gateway.admin_url, name)
            if name == "now":
                expect(seen.page.locator("#live")).to_have_text("live")
                expect(seen.page.locator(".tiles dd").first).to_be_visible()
            if name in ("now", "spend"):
                expect(seen.page.locator(".chart canvas").first).to_be_visible()
            if name == "requests":
                expect(seen.page.locator("tbody tr").first).to_contain_text("req_")
            seen.keep(f"{name}-{scheme}")
            found = [one for one in Axe().run(seen.page).response["violations"] if one["impact"] in GRAVE]
            assert not found, json.dumps(found, indent=1)[:4000]
        paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 380) == (scheme == "light"), paper
        assert seen.complaints == []


def test_on_a_phone_no_page_is_wider_than_the_screen(browser: Browser, gateway: Gateway) -> None:
    with window(browser, "dark", PHONE) as seen:
        for name in PAGES:
            seen.go(gateway.admin_url, name)
            seen.page.wait_for_timeout(300)
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
            seen.keep(f"{name}-phone")
        assert seen.complaints == []


def test_the_keyboard_alone_is_enough(browser: Browser, gateway: Gateway) -> None:
    with window(browser, size=DESK) as seen:
        seen.go(gateway.admin_url, "chat")
        page = seen.page
        expect(page.get_by_label("Message")).to_be_focused()
        page.keyboard.type("bytes=60")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
        switch = page.get_by_role("switch", name="azure")
        switch.focus()
        page.keyboard.press("Space")
        expect(switch).to_have_attribute("aria-checked", "false")
        page.keyboard.press("Space")
        expect(switch).to_have_attribute("aria-checked", "true")
        page.get_by_role("link", name="Now").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Now", exact=True)).to_be_attached()
        page.get_by_role("button", name=re.compile("Theme")).focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_an_incident_leads_to_its_request_and_its_timeline(browser: Browser, gateway: Gateway) -> None:
    with window(browser) as seen:
        seen.go(gateway.admin_url, "chat")
        answer = say(seen.page)
        first = answer.locator(".tag").first.inner_text().partition(" ")[0]
        seen.page.get_by_role("switch", name=first).click()
        expect(answer.locator(".attempts li")).to_have_count(2)
        seen.page.get_by_role("switch", name=first).click()
        seen.go(gateway.admin_url, "now")
        failover = seen.page.locator(".incidents li", has_text="failover").first
        expect(failover).to_contain_text("unplugged")
        failover.get_by_role("link").click()
        expect(seen.page.get_by_role("heading", name="Requests")).to_be_visible()
        row = seen.page.locator("tbody tr", has_text="req_").first
        row.get_by_role("button").click()
        expect(seen.page.locator("section", has_text="Its attempts").locator("canvas")).to_be_visible()
        expect(seen.page.get_by_role("region", name="Its attempts")).to_contain_text("continuation")
        seen.keep("request-timeline")
        assert seen.complaints == []


def test_the_page_comes_back_by_itself_when_the_gateway_does(browser: Browser, walls: MakeWall, tmp_path: Path) -> None:
    with gateways_under(tmp_path) as make, window(browser) as seen:
        first = make(*pools(walls))
        seen.go(first.admin_url, "now")
        live = seen.page.locator("#live")
        expect(live).to_have_text("live")
        first.kill()
        expect(live).to_have_text("reconnecting …")
        again = restart(first)
        try:
            expect(live).to_have_text("live", timeout=30_000)
        finally:
            again.stop()


def test_with_an_admin_key_nothing_is_shown_without_it(browser: Browser, walls: MakeWall, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(ADMIN_KEY.encode()).hexdigest()
    with gateways_under(tmp_path) as make, window(browser) as seen:
        gateway = make(*pools(walls), extra=f'[admin]\nkey_sha256 = "{sha256}"\n')
        page = seen.page
        page.goto(f"{gateway.admin_url}/console")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("admin key")
        assert "azure" not in page.content()
        for key in ("a wrong one", ADMIN_KEY):
            dialog.get_by_label("Key").fill(key)
            dialog.get_by_role("button", name="Use it").click()
            if key != ADMIN_KEY:
                expect(dialog).to_contain_text("not the right one")
        switch = page.get_by_role("switch", name="azure")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        assert ADMIN_KEY not in page.url


def test_with_keys_and_no_admin_key_it_only_reads(browser: Browser, walls: MakeWall, tmp_path: Path) -> None:
    key = "sk-ss-a-clients"
    keys = (Keys(hashlib.sha256(key.encode()).hexdigest(), "acme"),)
    with gateways_under(tmp_path) as make, window(browser) as seen:
        gateway = make(*pools(walls), keys=keys)
        seen.go(gateway.admin_url, "chat")
        page = seen.page
        expect(page.get_by_role("switch", name="azure")).to_be_disabled()
        page.get_by_label("Message").fill("bytes=60")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("key of the gateway")
        dialog.get_by_label("Key").fill(key)
        dialog.get_by_label("Key").press("Enter")
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
        assert len(page.locator(".words").inner_text()) >= 50
