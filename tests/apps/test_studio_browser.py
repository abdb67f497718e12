"""The studio in a real browser, end to end: each family of tasks, painting, layers, files, cancelling, a phone.

Screenshots are kept in the folder that OMNIALPHA_ARTEFACTS names, else among pytest's temporary files.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from psd_tools import PSDImage

import tiny
from omnialpha.apps.listening import listen
from omnialpha.apps.server.model import Model
from omnialpha.apps.studio.choices import FAMILIES
from omnialpha.apps.studio.command import Limits, application
from omnialpha.apps.studio.examples import FOLDER
from omnialpha.imaging import rgba

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PATIENCE = 60_000  # ms; only a machine that does other work needs them
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

expect.set_options(timeout=PATIENCE)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed; run: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch, listen("127.0.0.1", 0) as listener:
        patch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
        app = application(Model(tiny.pipeline(), "tiny"), Limits(data=folder / "jobs"), folder / "pages")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("OMNIALPHA_ARTEFACTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, url: str) -> Iterator[Page]:
    """The page, which must not fail, ask another machine for anything, or be wider than the screen."""
    problems: list[str] = []
    context = browser.new_context(**request.param, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()

    def check(asked: Request) -> None:
        if not asked.url.startswith((url, "data:", "blob:")):
            problems.append(asked.url)

    page.on("request", check)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    page.locator("#start").wait_for()
    yield page
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert problems == []
    assert width <= request.param["viewport"]["width"]


def choose(page: Page, family: str, way: str | None = None) -> None:
    page.locator("#family").get_by_text(family, exact=True).click()
    if way is not None:
        category = next(category for category, label in FAMILIES.items() if label == family)
        page.locator(f"#way-{category}").get_by_text(way, exact=True).click()


def drop(page: Page, part: str, file: Path) -> None:
    """Give a file to a part as the system's dialogue does, and wait until it is shown."""
    page.locator(f"{part} input[type=file]").set_input_files(file)
    page.locator(f"{part} img").first.wait_for()
    page.wait_for_timeout(800)


def run(page: Page, layers: int) -> None:
    page.locator("#start").click()
    expect(page.locator("#status p")).to_contain_text(re.compile(r"seed \d+ · \d+ steps"))
    expect(page.locator("#rows li")).to_have_count(layers)
    expect(page.locator("#view img")).to_be_visible()


def shot(page: Page, artefacts: Path, name: str) -> None:
    page.wait_for_timeout(300)  # the smooth ends of transitions
    kind = "phone" if page.viewport_size == PHONE["viewport"] else "desk"
    page.screenshot(path=artefacts / f"{name}_{kind}.png", full_page=True)


def paint(page: Page) -> None:
    """Draw over the middle of the picture."""
    canvas = page.locator("#paint canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # the canvas fits the picture in first
    box = canvas.bounding_box()
    assert box is not None
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(x + 0.45 * width, y + 0.45 * height)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x + (0.45 + 0.015 * step) * width, y + (0.45 + 0.01 * step) * height)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_separate_layers(page: Page, artefacts: Path, tmp_path: Path) -> None:
    """Three layers, arranged, looked at in every way, and taken home as a PSD."""
    drop(page, "#picture", FOLDER / "barrel.jpg")
    page.locator("#layers input[type=number]").fill("3")
    page.locator("#layers input[type=number]").press("Enter")
    run(page, layers=3)
    shot(page, artefacts, "separate")

    first = page.locator("#view img").get_attribute("src")
    rows = page.locator("#rows li")
    rows.first.locator(".name").fill("barrel")
    rows.first.locator(".name").press("Enter")
    rows.nth(1).locator(".visible").uncheck()
    rows.nth(2).locator(".opacity").fill("50")
    rows.first.locator('[data-move="down"]').click()
    expect(page.locator("#view img")).not_to_have_attribute("src", first or "")
    page.wait_for_timeout(800)

    with page.expect_download() as coming:
        page.locator("#save").click()
    coming.value.save_as(tmp_path / "layers.psd")
    layers = [(layer.name, layer.visible, layer.opacity) for layer in PSDImage.open(tmp_path / "layers.psd")]
    assert layers == [("background", True, 128), ("barrel", True, 255), ("foreground 2", False, 255)]

    for kind in ("Black", "White", "Colour", "Picture"):
        before = page.locator("#view img").get_attribute("src")
        page.locator("#backdrop").get_by_text(kind, exact=True).click()
        if kind == "Picture":
            drop(page, "#own", FOLDER / "lemur.jpg")
        expect(page.locator("#view img")).not_to_have_attribute("src", before or "")
    shot(page, artefacts, "separate_backdrop")

    page.locator('#view [data-zoom="in"]').click()
    expect(page.locator("#view output")).to_have_text("1.5 ×")
    assert "scale(1.5)" in page.locator("#view img").evaluate("image => image.style.transform")
    page.locator('#view [data-zoom="fit"]').click()
    expect(page.locator("#view output")).to_have_text("fit")
    page.get_by_role("tab", name="Before and after").click()
    expect(page.locator("#slider img").first).to_be_visible()
    shot(page, artefacts, "separate_slider")


def test_cut_out_with_a_painted_trimap(page: Page, artefacts: Path) -> None:
    choose(page, "Cut out", "Paint a trimap")
    drop(page, "#picture", FOLDER / "lemur.jpg")
    paint(page)
    shot(page, artefacts, "cut_out_painted")
    run(page, layers=1)
    shot(page, artefacts, "cut_out")


def test_remove_with_a_painted_mask(page: Page, artefacts: Path) -> None:
    drop(page, "#picture", FOLDER / "mailbox.jpg")
    choose(page, "Remove", "Paint roughly")
    page.locator("#start").click()
    expect(page.locator("#status .problem")).to_contain_text("paint over the object")
    shot(page, artefacts, "remove_problem")
    paint(page)
    run(page, layers=1)
    shot(page, artefacts, "remove")


def test_complete(page: Page, artefacts: Path) -> None:
    choose(page, "Complete")
    drop(page, "#cutouts", FOLDER / "chair.webp")
    page.locator("#text textarea").fill("a green meadow under a blue sky")
    run(page, layers=1)
    shot(page, artefacts, "complete")


def test_create_and_the_history(page: Page, artefacts: Path) -> None:
    choose(page, "Create")
    page.locator("#start").click()
    expect(page.locator("#status .problem")).to_contain_text("needs a text")
    page.locator("#text textarea").fill("a red apple")
    run(page, layers=1)
    shot(page, artefacts, "create")

    page.locator("#examples button").last.click()  # fills in and runs
    expect(page.locator("#history button")).to_have_count(2)
    page.locator("#history button").last.click()
    expect(page.locator("#status p")).to_contain_text("a red apple")
    page.locator("#again").click()
    expect(page.locator("#text textarea")).to_have_value("a red apple")
    shot(page, artefacts, "history")


def test_cancel(page: Page, artefacts: Path) -> None:
    drop(page, "#picture", FOLDER / "orca.jpg")
    page.locator("#settings button").first.click()
    page.get_by_label("number input for Steps").fill("100")
    page.get_by_label("number input for Steps").press("Enter")
    page.locator("#start").click()
    expect(page.locator("#status")).to_contain_text("Step")
    shot(page, artefacts, "progress")
    page.locator("#cancel").click()
    expect(page.locator("#status p")).to_have_text("Cancelled.")
    expect(page.locator("#start")).to_be_visible()


def test_a_file_that_is_no_picture(page: Page, artefacts: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_text("no picture that can be read").first).to_be_visible(timeout=PATIENCE)
    shot(page, artefacts, "no_picture")


def test_a_large_picture_comes_back_at_its_size(page: Page, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((1500, 1000)).convert("RGB").save(tmp_path / "large.jpg")
    drop(page, "#picture", tmp_path / "large.jpg")
    run(page, layers=2)
    expect(page.locator("#view")).to_contain_text("1500 × 1000")
    page.get_by_label("Format").click()
    page.get_by_role("option", name="One PNG picture (.png)").click()
    with page.expect_download() as coming:
        page.locator("#save").click()
    coming.value.save_as(tmp_path / "flat.png")
    assert rgba.read(tmp_path / "flat.png").size == (1500, 1000)
