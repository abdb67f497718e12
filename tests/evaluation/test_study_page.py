"""The human study's page in a real browser: annotators at the same time, lost connections, keys, fingers, zoom."""

import asyncio
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

import pair_folder
from omnialpha.apps.listening import listen
from omnialpha.evaluation.study import Study
from omnialpha.evaluation.study_results import results
from omnialpha.evaluation.study_server import application

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PATIENCE = 60_000  # ms; only a machine that does other work needs them
CASES = 6
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed; run: apt-get install chromium")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def browser(loop: asyncio.Runner) -> Iterator[Browser]:
    driver = loop.run(async_playwright().start())
    browser = loop.run(driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS))
    yield browser
    loop.run(browser.close())
    loop.run(driver.stop())


@dataclass
class Served:
    """A running study, and what pages did that they should not: errors, requests to other places."""

    study: Study
    url: str
    problems: list[str] = field(default_factory=list)

    def address(self, annotator: int) -> str:
        return f"{self.url}/#{self.study.annotators()[annotator]}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    pairs = pair_folder.make(tmp_path / "pairs", CASES, size=(64, 48))
    study = Study.begin(tmp_path / "study", pairs, annotators=10)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(application(study, pairs), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        served = Served(study, f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield served
        server.should_exit = True
        thread.join()
    assert served.problems == []


async def open_page(context: BrowserContext, served: Served, address: str) -> Page:
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()

    def check(request: Request) -> None:
        if not request.url.startswith((served.url, "data:")):
            served.problems.append(request.url)

    page.on("request", check)
    page.on("pageerror", lambda error: served.problems.append(str(error)))
    await page.goto(address)
    return page


async def ready(page: Page) -> None:
    """Wait until the pictures are shown and an answer counts."""
    await page.locator('#study[aria-busy="false"]').wait_for()


async def count(page: Page, done: int) -> None:
    await expect(page.locator("#count")).to_have_text(f"{done} / {CASES}", timeout=PATIENCE)


async def green_side(page: Page) -> str:
    """Look at the pictures: which one is green?"""
    return await page.evaluate(
        """() => ["A", "B"].find((id) => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.drawImage(document.getElementById(id), 0, 0);
            const [red, green] = canvas.getImageData(9, 9, 1, 1).data;
            return green > red;
        })"""
    )


async def answer(page: Page, choice: str, way: int) -> None:
    button = page.locator(f'button[data-choice="{choice}"]')
    if way == 0:
        await page.keyboard.press({"A": "ArrowLeft", "tie": "ArrowDown", "B": "ArrowRight"}[choice])
    elif way == 1:
        await button.dblclick()
    else:
        await button.tap()


async def annotate(browser: Browser, served: Served, number: int) -> None:
    """Six of ten prefer green, two red, two see no difference; with keys, double clicks or a finger."""
    context = await browser.new_context(**(PHONE if number % 3 == 2 else {}))
    page = await open_page(context, served, served.address(number))
    for done in range(CASES):
        await ready(page)
        await count(page, done)
        green = await green_side(page)
        red = "A" if green == "B" else "B"
        await answer(page, green if number < 6 else red if number < 8 else "tie", way=number % 3)
    await expect(page.locator("#end-status")).to_contain_text(f"All {CASES} answers are saved", timeout=PATIENCE)
    await context.close()


@pytest.mark.parametrize("numbers", [(0, 7, 8), pytest.param(tuple(range(10)), marks=pytest.mark.slow)], ids=len)
def test_annotators_at_the_same_time(
    loop: asyncio.Runner, browser: Browser, served: Served, numbers: tuple[int, ...]
) -> None:
    async def everybody() -> None:
        await asyncio.gather(*(annotate(browser, served, number) for number in numbers))

    loop.run(everybody())
    votes = served.study.votes()
    assert len(votes) == len(numbers) * CASES
    expected = ["win"] * 6 + ["lose"] * 2 + ["tie"] * 2  # green is ours
    outcomes = dict(zip(served.study.annotators(), expected, strict=True))
    assert all(vote.outcome == outcomes[vote.annotator] for vote in votes)
    assert {vote.ours_as for vote in votes} == {"A", "B"}
    majority = "win" if len(numbers) == 10 else "tie"  # six of ten for ours; one vote each of three
    assert Counter(case["majority"] for case in results(served.study)["cases"]) == {majority: CASES}


def test_answers_survive_a_lost_connection(loop: asyncio.Runner, browser: Browser, served: Served) -> None:
    async def annotate() -> None:
        context = await browser.new_context()
        page = await open_page(context, served, served.address(0))
        await ready(page)
        await page.wait_for_load_state("networkidle")  # the next pictures are there
        await context.set_offline(True)
        for done in range(3):
            await count(page, done)
            await ready(page)
            await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#status")).to_contain_text("3 answers are kept here", timeout=PATIENCE)
        assert served.study.votes() == []

        await context.set_offline(False)
        await page.reload()  # as after a crash of the browser: what was not sent is in its storage
        await count(page, 3)
        await ready(page)
        await expect(page.locator("#status")).to_have_text("", timeout=PATIENCE)
        await page.wait_for_load_state("networkidle")
        assert len(served.study.votes()) == 3
        await page.keyboard.press("ArrowDown")
        await count(page, 4)
        await ready(page)
        await context.close()

    loop.run(annotate())
    assert len(served.study.votes()) == 4


def test_keys_and_buttons(loop: asyncio.Runner, browser: Browser, served: Served) -> None:
    async def annotate() -> None:
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        page = await open_page(context, served, served.url)
        await page.locator("#code").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-problem")).to_contain_text('nobody has the code "wrong"')
        await page.locator("#code").fill(f" {served.study.annotators()[0].upper()} ")
        await page.locator("#begin").click()

        await ready(page)
        for _ in range(5):
            await page.keyboard.down("ArrowLeft")  # from the second time on a repetition: a key held down
        await page.keyboard.up("ArrowLeft")
        await count(page, 1)
        await ready(page)
        assert len(served.study.votes()) == 1
        await page.keyboard.press("Backspace")
        await expect(page.locator('button[data-choice="A"]')).to_have_attribute("aria-pressed", "true")
        await ready(page)
        await page.locator('button[data-choice="tie"]').click()
        await ready(page)
        assert [vote.outcome for vote in served.study.votes()] == ["tie"]

        for key, colour in (("k", "rgb(0, 0, 0)"), ("w", "rgb(255, 255, 255)")):
            await page.keyboard.press(key)
            for frame in await page.locator(".view").all():
                await expect(frame).to_have_css("background-color", colour)
        await page.locator('button[data-backdrop="checker"]').click()
        await expect(page.locator(".view").first).to_have_css("background-image", re.compile("conic-gradient"))

        await page.locator('button[data-zoom="in"]').click()
        await page.locator(".view").last.hover(position={"x": 5, "y": 5})
        await page.mouse.wheel(0, -200)
        await page.mouse.down()
        await page.mouse.move(700, 300)
        await page.mouse.up()
        transforms = {await page.locator(f"#{name}").evaluate("image => image.style.transform") for name in ("A", "B")}
        assert len(transforms) == 1  # both show the same part
        assert "scale(2.4" in transforms.pop()  # 1.5 · exp(200 / 400)
        await page.keyboard.press("0")
        assert "scale(1)" in await page.locator("#A").evaluate("image => image.style.transform")
        await context.close()

    loop.run(annotate())


def test_fingers_on_a_phone(loop: asyncio.Runner, browser: Browser, served: Served) -> None:
    async def annotate() -> None:
        context = await browser.new_context(**PHONE)
        page = await open_page(context, served, served.address(0))
        await ready(page)
        size = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size == list(PHONE["viewport"].values())  # nothing to scroll
        frames = await page.locator("figure img:visible").evaluate_all(
            "all => all.map((e) => e.getBoundingClientRect())"
        )
        assert [frame["width"] > 0.8 * size[0] for frame in frames] == [True] * 3
        touch = await context.new_cdp_session(page)
        y = (frames[1]["top"] + frames[1]["bottom"]) / 2
        for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchEnd", 0)):
            fingers = [{"x": 200 - apart, "y": y, "id": 0}, {"x": 200 + apart, "y": y, "id": 1}] if apart else []
            await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
        assert "scale(2)" in await page.locator("#A").evaluate("image => image.style.transform")
        await context.close()

    loop.run(annotate())
