"""The studio's page without a browser: its parts and actions, called as Gradio calls them, on a run of our own."""

import asyncio
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from psd_tools import PSDImage
from starlette.testclient import TestClient

import tiny
from omnialpha.apps.server.jobs import Work
from omnialpha.apps.server.model import Model
from omnialpha.apps.studio.choices import FAMILIES, ways
from omnialpha.apps.studio.command import Limits, application
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.apps.studio.guides import OBJECT
from omnialpha.apps.studio.history import History, Visit
from omnialpha.apps.studio.page.answer import Answer
from omnialpha.apps.studio.page.blocks import NO_PICTURE
from omnialpha.apps.studio.page.layout import Page, layout
from omnialpha.apps.studio.page.question import Question
from omnialpha.apps.studio.runs import Progress, through
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.models.profile import Profile
from omnialpha.tasks import SEVERAL, TASKS

PROFILE = Profile(
    name="test", steps=7, true_cfg_scale=1.5, task_steps={"removal_auto": 3}, task_cfg={"removal_auto": 2}
)
SIZE = (12, 8)


class Painter:
    """Runs that give one colour per layer, and keep what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Work, list[Image.Image]]] = []
        self.error: Exception | None = None

    def __call__(
        self, work: Work, images: Sequence[Path], report: Progress, cancel: threading.Event
    ) -> LayerStack | None:
        self.asked.append((work, [rgba.read(file) for file in images]))
        report(1, work.steps or 0)
        if self.error is not None:
            raise self.error
        if cancel.is_set():
            return None
        names = TASKS[work.task].layer_names(work.layers or len(TASKS[work.task].targets))[::-1]
        colours = ("red", "lime", "blue")
        layers = [Layer(Image.new("RGBA", SIZE, colours[k % 3]), name) for k, name in enumerate(names)]
        return LayerStack(layers)


class Desk:
    """The actions of one page and the values of its parts."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.painter, self.history = page, Painter(), History(folder)
        self.question = Question(page, PROFILE, self.history)
        self.answer = Answer(page, self.question, self.painter, self.history)
        parts = [part for part in vars(page).values() if part is not page.ways]
        self.values: dict[Any, Any] = dict.fromkeys([*parts, *page.ways.values()])
        self.choose("matting_auto")
        self.values |= {page.visit: Visit(), page.seed: 5, page.fresh: False, page.steps: 2}
        self.values |= {
            page.guidance: 1,
            page.sharp: True,
            page.layers: 2,
            page.text: "",
            page.backdrop: "black",
            page.format: "psd",
        }

    def update(self, updates: dict[Any, Any]) -> dict[Any, Any]:
        """Change values as the browser would."""
        for part, value in updates.items():
            if not isinstance(value, dict) or "__type__" not in value:
                self.values[part] = value
            elif "value" in value:
                self.values[part] = value["value"]
        return updates

    def choose(self, task: str) -> None:
        family = TASKS[task].category
        self.values[self.page.family] = family
        if family in self.page.ways:
            self.values[self.page.ways[family]] = task

    def run(self, way: str | None = None, **values: Any) -> list[dict[Any, Any]]:
        if way is not None:
            self.choose(way)
        self.values |= {getattr(self.page, name): value for name, value in values.items()}
        return [self.update(updates) for updates in self.answer.start(self.values)]

    @property
    def status(self) -> str:
        return str(self.values[self.page.status])


@pytest.fixture(scope="module")
def page() -> Page:
    with gr.Blocks():
        return layout(gr.State(), PROFILE)


@pytest.fixture
def desk(page: Page, tmp_path: Path) -> Desk:
    return Desk(page, tmp_path / "studio")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.new("RGB", SIZE, "white").save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def shown(updates: dict[Any, Any], part: Any) -> bool:
    return bool(updates[part]["visible"])


# --- the left side ---


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_each_task_shows_what_it_needs(desk: Desk, task: Any) -> None:
    p, updates = desk.page, desk.question.choose_way(task.id)
    assert shown(updates, p.picture) == (task.inputs[:1] in (("composite",), ("background",)))
    assert shown(updates, p.cutouts) == (task.inputs[:1] == (SEVERAL,))
    assert shown(updates, p.painting) == task.id.endswith(("mask", "trimap"))
    assert shown(updates, p.guide) == (len(task.inputs) == 2)
    assert shown(updates, p.text) == (task.text is not None)
    assert shown(updates, p.layers) == (SEVERAL in task.targets)


def test_defaults_are_those_of_the_model(desk: Desk) -> None:
    removal, matting = (desk.question.choose_way(task) for task in ("removal_auto", "matting_auto"))
    assert [removal[part]["value"] for part in (desk.page.steps, desk.page.guidance)] == [3, 2]
    assert [matting[part]["value"] for part in (desk.page.steps, desk.page.guidance)] == [7, 1.5]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_offers_its_ways(desk: Desk, family: str) -> None:
    p = desk.page
    desk.choose(ways(family)[-1].task)
    updates = desk.question.choose_family(desk.values)
    assert [name for name, way in p.ways.items() if shown(updates, way)] == ([family] if family in p.ways else [])
    assert p.task(desk.values).id == ways(family)[-1].task
    assert shown(updates, p.text) == (TASKS[ways(family)[-1].task].text is not None)
    if family in p.ways:
        assert p.ways[family].choices == [(way.label, way.task) for way in ways(family)]


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=lambda number: EXAMPLES[number].task)
def test_examples_fill_everything_in(desk: Desk, number: int) -> None:
    desk.update(desk.question.fill_example(gr.EventData(None, {"index": number})))
    desk.values[desk.page.cutouts] = [(file, None) for file in desk.values[desk.page.cutouts] or ()]  # as Gradio does
    desk.run()
    ((work, images),) = desk.painter.asked
    assert work.task == EXAMPLES[number].task
    assert work.text == EXAMPLES[number].text
    assert [image.tobytes() for image in images] == [rgba.read(file).tobytes() for file in EXAMPLES[number].files]


def test_a_picture_lies_under_the_brush(desk: Desk, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large.png")
    canvas = desk.question.take_picture(str(tmp_path / "large.png"))[desk.page.paint]
    assert canvas["background"].size == (1024, 512)
    assert desk.question.take_picture(None)[desk.page.paint] is None


def test_a_broken_picture_is_one_line(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    line = desk.question.take_picture(str(tmp_path / "broken.png"))[desk.page.status]
    assert line.startswith('<p class="problem" role="alert">')
    assert "Traceback" not in line
    assert line.count("\n") == 0


# --- running ---


def test_a_run_shows_progress_then_layers(desk: Desk, photo: str) -> None:
    p = desk.page
    first, step, last = desk.run(way="decomposition_auto", picture=photo, layers=3)
    assert (shown(first, p.start), shown(first, p.cancel)) == (False, True)
    assert "Step 1 of 2" in step[p.status]
    assert (shown(last, p.start), shown(last, p.cancel), shown(last, p.result)) == (True, False, True)
    assert [row["name"] for row in last[p.rows]] == ["foreground 1", "foreground 2", "background"]
    assert last[p.view]["size"] == "12 × 8"
    assert last[p.slider][0].getpixel((0, 0)) == (255, 255, 255)  # before
    assert last[p.slider][1].getpixel((0, 0)) == (0, 0, 255)  # after: the front layer
    assert len(last[p.history]) == 1
    assert "seed 5 · 2 steps · guidance 1" in desk.status


def test_painted_guides_reach_the_model(desk: Desk, photo: str) -> None:
    strokes = Image.new("RGBA", SIZE)
    strokes.paste(OBJECT, (2, 2, 9, 6))
    desk.run(way="removal_precise_mask", picture=photo, paint={"background": None, "layers": [strokes]})
    ((_, (_, guide)),) = desk.painter.asked
    assert guide.convert("L").getbbox() == (2, 2, 9, 6)
    assert (guide.getpixel((3, 3)), guide.getpixel((0, 0))) == ((255,) * 4, (0, 0, 0, 255))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"way": "matting_auto"}, "picture is missing"),
        ({"way": "matting_alpha", "picture": "photo"}, "alpha matte is missing"),
        ({"way": "matting_trimap", "picture": "photo"}, "paint"),
        ({"way": "foreground_to_background", "text": "a hill"}, "cut-out is missing"),
        ({"way": "text_to_image", "text": " "}, "needs a text"),
    ],
)
def test_what_is_missing_is_told(desk: Desk, photo: str, values: dict[str, Any], words: str) -> None:
    (*_, last) = desk.run(**{name: photo if value == "photo" else value for name, value in values.items()})
    assert words in desk.status
    assert 'class="problem"' in desk.status
    assert shown(last, desk.page.start)
    assert desk.painter.asked == []
    assert list(desk.history.folder.glob("*")) == []  # nothing is left behind


def test_errors_of_the_model_are_one_line(desk: Desk, photo: str) -> None:
    for error, words in ((ImageError("too dark"), "too dark"), (KeyError("/secret"), "its log says why")):
        desk.painter.error = error
        (*_, last) = desk.run(picture=photo)
        assert words in desk.status
        assert "secret" not in desk.status
        assert shown(last, desk.page.start)


def test_cancel_ends_the_run(desk: Desk, photo: str) -> None:
    desk.values |= {desk.page.picture: photo}
    run = desk.answer.start(desk.values)
    next(run)
    assert "Cancelling" in desk.answer.cancel(desk.values[desk.page.visit])[desk.page.status]
    *_, last = run
    assert "Cancelled" in last[desk.page.status]
    assert desk.values[desk.page.visit].keys == []


def test_another_seed_each_time(desk: Desk, photo: str) -> None:
    for _ in range(2):
        desk.run(picture=photo, fresh=True)
    seeds = [work.seed for work, _ in desk.painter.asked]
    assert seeds[0] != seeds[1]
    assert desk.values[desk.page.seed] == seeds[1]


# --- looking, arranging, saving ---


def test_layers_are_arranged_and_saved(desk: Desk, photo: str) -> None:
    p = desk.page
    desk.run(way="decomposition_auto", picture=photo, layers=3)
    front, middle, back = desk.values[p.rows]
    rows = [middle, front | {"visible": False, "name": "glass"}, back]
    desk.update(desk.answer.arrange(desk.values, gr.EventData(None, {"rows": rows})))
    assert desk.values[p.slider][1].getpixel((0, 0)) == (0, 255, 0)
    saved = PSDImage.open(desk.answer.save(desk.values)[p.file])
    assert [(layer.name, layer.visible) for layer in saved] == [
        ("background", True),
        ("glass", False),
        ("foreground 2", True),
    ]


def test_rows_from_elsewhere_change_nothing(desk: Desk, photo: str) -> None:
    desk.run(way="decomposition_auto", picture=photo)
    updates = desk.answer.arrange(desk.values, gr.EventData(None, {"rows": [{"index": 9}]}))
    assert "reload the page" in updates[desk.page.status]
    assert len(PSDImage.open(desk.answer.save(desk.values)[desk.page.file])) == 2


def test_the_backdrop_is_seen_but_not_saved(desk: Desk, photo: str) -> None:
    p = desk.page
    desk.run(way="decomposition_auto", picture=photo)
    hidden = [row | {"visible": False} for row in desk.values[p.rows]]
    desk.answer.arrange(desk.values, gr.EventData(None, {"rows": hidden}))
    for kind, colour in (("white", (255,) * 3), ("colour", (16, 32, 48)), ("picture", (255,) * 3)):
        desk.values |= {p.backdrop: kind, p.colour: "#102030", p.own: photo}
        updates = desk.answer.change_backdrop(desk.values)
        assert updates[p.slider][1].getpixel((0, 0)) == colour
        assert (shown(updates, p.colour), shown(updates, p.own)) == (kind == "colour", kind == "picture")
    desk.values[p.format] = "png-flat"
    assert rgba.read(desk.answer.save(desk.values)[p.file]).getpixel((0, 0)) == (0, 0, 0, 0)


def test_earlier_results_come_back(desk: Desk, photo: str) -> None:
    p = desk.page
    desk.run(way="decomposition_auto", picture=photo, layers=3, seed=11)
    desk.run(way="matting_text", picture=photo, text="a kite", seed=12)
    assert [item["caption"] for item in desk.values[p.history]] == ["Cut out, seed 12", "Separate layers, seed 11"]
    desk.update(desk.answer.show_again(desk.values, gr.EventData(None, {"index": 1})))
    assert len(desk.values[p.rows]) == 3
    desk.update(desk.question.fill_again(desk.values[p.visit]))
    assert [desk.values[part] for part in (p.family, p.ways["decomposition"], p.seed, p.layers, p.picture)] == [
        "decomposition",
        "decomposition_auto",
        11,
        3,
        photo,
    ]
    assert "make room" in desk.answer.show_again(desk.values, gr.EventData(None, {"index": 7}))[p.status]


def test_nothing_to_save_is_told(desk: Desk) -> None:
    updates = desk.answer.save(desk.values)
    assert "no result yet" in updates[desk.page.status]
    assert updates[desk.page.file] is None


# --- served ---


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """The whole application on a tiny model, and the folder of the page."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
        limits = Limits(data=folder / "jobs", max_upload=1)
        with TestClient(application(Model(tiny.pipeline(), "tiny"), limits, folder / "page")) as client:
            yield client, folder / "page"


def test_the_page_is_served_beside_the_service(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    config = client.get("/config").json()
    assert config["title"] == "omnialpha studio"
    assert not config["analytics_enabled"]
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/v1/models").status_code == 200
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", client.get("/").text) == []
    assert os.environ["GRADIO_TEMP_DIR"].startswith(str(folder))


def test_runs_of_the_page_go_through_the_queue_of_the_service(served: tuple[TestClient, Path], photo: str) -> None:
    service: Any = served[0].app.state.service  # type: ignore[attr-defined]
    before = service.store.counts().get("done", 0)
    steps: list[tuple[int, int]] = []
    work = Work(task="decomposition_auto", layers=3, seed=4, steps=2)
    stack = through(service)(work, [Path(photo)], lambda *step: steps.append(step), threading.Event())
    assert stack is not None
    assert [layer.name for layer in stack] == ["background", "foreground 2", "foreground 1"]
    assert stack.size == SIZE
    assert stack.metadata["seed"] == 4
    assert steps[-1] == (2, 2)
    assert service.store.counts()["done"] == before + 1

    cancel = threading.Event()
    cancel.set()
    assert through(service)(Work(task="matting_auto", steps=90), [Path(photo)], lambda *_: None, cancel) is None


def test_limits_of_the_service_are_told(served: tuple[TestClient, Path], photo: str) -> None:
    service: Any = served[0].app.state.service  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="1000 steps"):
        through(service)(Work(task="matting_auto", steps=1000), [Path(photo)], lambda *_: None, threading.Event())


def test_uploads_have_a_limit(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    small, large = (client.post("/gradio_api/upload", files={"files": ("a.png", bytes(n))}) for n in (1000, 2_000_000))
    assert small.status_code == 200
    assert small.json()[0].startswith(str(folder))  # ends with the studio's other files
    assert large.status_code == 413


def test_other_files_of_the_machine_are_not_served(served: tuple[TestClient, Path]) -> None:
    assert served[0].get("/gradio_api/file=/etc/passwd").status_code in (403, 404)


def test_what_is_no_picture_is_told(served: tuple[TestClient, Path], tmp_path: Path) -> None:
    routes: Any = served[0].app.routes  # type: ignore[attr-defined]
    blocks = next(route.app.get_blocks() for route in routes if hasattr(getattr(route, "app", None), "get_blocks"))
    action = next(action for action in blocks.fns.values() if action.name == "take_picture")
    (tmp_path / "text.png").write_text("no picture")
    data = [{"path": str(tmp_path / "text.png"), "meta": {"_type": "gradio.FileData"}}]
    with pytest.raises(gr.Error, match=NO_PICTURE):
        asyncio.run(blocks.preprocess_data(action, data, None, explicit_call=True))
