"""The preview page: what is in the file, and (slow) what a browser makes of it."""

import base64
import html.parser
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from finished_build import make_build
from omnialpha.alphalayers.finished import MASKS, read_finished
from omnialpha.alphalayers.preview import preview
from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import over

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]


class _Scripts(html.parser.HTMLParser):
    """Ids and contents of a page's data, read as a browser does: to the first closing tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.tags: set[str] = set()
        self._name: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self._name = values.get("id") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._name is not None:
            self.found[self._name] = self.found.get(self._name, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._name = None


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("build") / "shapes & co", samples=30, side=32)


@pytest.fixture(scope="module")
def page(build: Path) -> Path:
    assert preview(build, build / "preview.html") == 30
    return build / "preview.html"


def _data(page: Path) -> tuple[_Scripts, dict[str, Any]]:
    scripts = _Scripts(page.read_text(encoding="utf-8"))
    return scripts, {name: json.loads(text) for name, text in scripts.found.items()}


def _decoded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_page_has_every_sample_with_all_that_is_known(build: Path, page: Path) -> None:
    _, data = _data(page)
    for place, each in enumerate(read_finished(build)):
        known = {"id": each.sample.id, "split": each.sample.split, **each.texts, **each.numbers}
        assert data["index"]["samples"][place] == known
        pictures = data[f"pictures-{place}"]
        assert set(pictures) == {"foreground", "background", "composite", "recomposite", *MASKS}
    assert data["index"]["total"] == 30
    assert data["index"]["dropped"] == [["edit", "OSError", 1], ["filter", "too small", 1]]


def test_pictures_are_those_of_the_build(build: Path, page: Path) -> None:
    _, data = _data(page)
    each = next(read_finished(build))
    layers = {name: rgba.read_array(file) for name, file in each.pictures.items()}
    layers["recomposite"] = over(layers["foreground"], layers["background"])
    for name, expected in layers.items():
        found = rgba.to_array(_decoded(data["pictures-0"][name]))
        assert np.abs(rgba.premultiply(found) - rgba.premultiply(expected)).mean() < 0.03  # WebP loses a little
    assert _decoded(data["pictures-0"]["foreground"]).mode == "RGBA"


def test_large_pictures_become_thumbnails(tmp_path: Path) -> None:
    build = make_build(tmp_path / "out", samples=1, side=96)
    preview(build, tmp_path / "page.html", side=48)
    assert _decoded(_data(tmp_path / "page.html")[1]["pictures-0"]["composite"]).size == (48, 48)


def test_captions_cannot_become_code(page: Path) -> None:
    """A caption of the build is `a blob on a wall </script><b id="injected">`; its name holds an ampersand."""
    scripts, data = _data(page)
    assert "b" not in scripts.tags
    assert data["index"]["samples"][0]["composite_caption"].endswith('<b id="injected">')
    assert "<title>shapes &amp; co: AlphaLayers</title>" in page.read_text(encoding="utf-8")


def test_the_page_asks_the_network_for_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_of_many_samples_the_page_shows_some_of_every_quality(build: Path, tmp_path: Path) -> None:
    assert preview(build, tmp_path / "page.html", limit=4) == 4
    _, data = _data(tmp_path / "page.html")
    scores = sorted(each.sample.score or 0.0 for each in read_finished(build))
    shown = [sample["score"] for sample in data["index"]["samples"]]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (scores[0], scores[-1])
    assert data["index"]["total"] == 30
    assert "pictures-4" not in data


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(InputError, match="omnialpha data status"):
        preview(tmp_path, tmp_path / "page.html")


@pytest.fixture(scope="module")
def opened(page: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no browser is installed; run: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        problems: list[str] = []
        opened.on("console", lambda message: problems.append(message.text))
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda request: problems.append(request.url) if "data:" not in request.url[:5] else None)
        opened.goto(page.as_uri())
        problems.remove(page.as_uri())
        yield opened
        browser.close()
        assert problems == []


def _shown(page: Page) -> list[int]:
    return [int(name, 16) for name in page.locator("article .name").all_text_contents()]


@pytest.mark.slow
def test_sorting_filtering_and_looking(build: Path, opened: Page) -> None:
    scores = {int(each.sample.id, 16): each.sample.score or 0.0 for each in read_finished(build)}
    ranked = sorted(scores, key=lambda number: scores[number])
    assert _shown(opened) == ranked[:24]
    # The rest comes when one scrolls down.
    opened.locator("#end").scroll_into_view_if_needed()
    expect(opened.locator("article")).to_have_count(30)
    opened.select_option("#sort", "worst")
    assert _shown(opened)[:3] == ranked[:-4:-1]
    opened.select_option("#split", "test")
    assert opened.locator("#shown").text_content() == "10 of 30 shown"
    assert set(_shown(opened)) == set(range(2, 30, 3))
    opened.fill("#search", "scene 14, painted")
    assert _shown(opened) == [14]
    opened.fill("#search", "")
    opened.select_option("#split", "")
    opened.locator("#histogram g").last.click()
    assert _shown(opened)[0] == ranked[-1]
    assert len(_shown(opened)) < 10
    opened.locator("#histogram g").last.click()
    opened.select_option("#sort", "best")
    opened.locator(".picture").nth(2).click()
    assert opened.locator("#label").text_content() == "composite"
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#label").text_content() == "recomposite"
    opened.keyboard.press("Escape")
    assert not opened.locator("#viewer").is_visible()
    assert opened.locator("#left-out summary").text_content() == "2 candidates left out"
    widths = opened.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert all(widths[1:])  # the first is the viewer's


@pytest.mark.slow
def test_it_fits_a_phone(opened: Page) -> None:
    opened.set_viewport_size({"width": 360, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
