"""The studio without its page: choices, guides from strokes, layers, backdrops, history, files, runs."""

import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from psd_tools import PSDImage

from omnialpha import formats
from omnialpha.apps.server.jobs import Work
from omnialpha.apps.studio import download
from omnialpha.apps.studio.arrange import arrange, rows_of
from omnialpha.apps.studio.choices import FAMILIES, guide_of, ways
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.apps.studio.guides import OBJECT, OPACITY, UNSURE, painted_guide
from omnialpha.apps.studio.history import Entry, History
from omnialpha.apps.studio.runs import Progress, follow
from omnialpha.apps.studio.telling import problem_line, progress, said
from omnialpha.apps.studio.view import Backdrop, before_and_after, over_backdrop, shrunk
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.backdrop import checkerboard, lay_over
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.tasks import TASKS

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


def stack_of(*colours: tuple[int, int, int, int], size: tuple[int, int] = (8, 6)) -> LayerStack:
    return LayerStack([Layer(Image.new("RGBA", size, colour), f"layer {k}") for k, colour in enumerate(colours)])


# --- choices ---


def test_families_and_ways_lead_to_each_task_once() -> None:
    chosen = [way.task for family in FAMILIES for way in ways(family)]
    assert sorted(chosen) == sorted(TASKS)
    for family in FAMILIES:
        labels = [way.label for way in ways(family)]
        assert len(set(labels)) == len(labels)


def test_guides_are_those_of_the_tasks() -> None:
    assert [guide_of(TASKS[f"removal_{kind}"]) for kind in ("auto", "alpha", "rough_mask")] == [
        None,
        "alpha",
        "rough_mask",
    ]


def test_examples_fit_their_tasks() -> None:
    for example in EXAMPLES:
        task = TASKS[example.task]
        task.check_images(len(example.files))
        task.prompt(example.text)
        assert len({rgba.read(file).size for file in example.files}) == 1


# --- guides ---


def strokes(*shapes: tuple[str, tuple[int, int, int, int]], size: tuple[int, int] = (40, 40)) -> Image.Image:
    """Rectangles painted one after the other with the translucent brush, as the browser does."""
    canvas = Image.new("RGBA", size)
    for colour, box in shapes:
        stroke = Image.new("RGBA", size)
        red, green, blue = Image.new("RGB", (1, 1), colour).getpixel((0, 0))  # type: ignore[misc]
        ImageDraw.Draw(stroke).rectangle(box, fill=(red, green, blue, round(255 * OPACITY)))
        canvas.alpha_composite(stroke)
    return canvas


BODY, EDGE = (10, 10, 29, 29), (5, 5, 34, 34)


def test_a_trimap_is_white_grey_and_black() -> None:
    guide = np.asarray(painted_guide(strokes((UNSURE, EDGE), (OBJECT, BODY)), (40, 40), "trimap"))
    expected = np.zeros((40, 40), np.uint8)
    expected[5:35, 5:35] = 128
    expected[10:30, 10:30] = 255
    assert (guide == expected).all()


def test_the_last_stroke_decides() -> None:
    guide = np.asarray(painted_guide(strokes((OBJECT, EDGE), (UNSURE, BODY)), (40, 40), "trimap"))
    assert guide[20, 20] == 128
    assert guide[7, 20] == 255


def test_a_trimap_without_a_painted_edge_gets_a_band() -> None:
    guide = np.asarray(painted_guide(strokes((OBJECT, BODY)), (40, 40), "trimap"))
    assert set(np.unique(guide)) == {0, 128, 255}
    assert guide[20, 10] == guide[20, 9] == 128  # on both sides of the outline
    assert guide[20, 20] == 255
    assert guide[2, 2] == 0


def test_masks_from_strokes() -> None:
    painted = strokes((UNSURE, EDGE), (OBJECT, BODY))
    precise, rough = (np.asarray(painted_guide(painted, (40, 40), kind)) for kind in ("precise_mask", "rough_mask"))
    assert (precise == 255).sum() == 20 * 20
    assert (rough == 255).sum() == 30 * 30
    assert set(np.unique(precise)) == set(np.unique(rough)) == {0, 255}


def test_a_guide_has_the_size_of_the_picture() -> None:
    guide = painted_guide(strokes((OBJECT, BODY)), (100, 80), "precise_mask")
    box = guide.getbbox()
    assert guide.size == (100, 80)
    assert box is not None
    assert np.abs(np.subtract(box, (25, 20, 75, 60))).max() <= 1


@pytest.mark.parametrize("kind", ["precise_mask", "rough_mask", "trimap"])
def test_nothing_painted_is_told(kind: str) -> None:
    with pytest.raises(InputError, match="paint"):
        painted_guide(Image.new("RGBA", (8, 8)), (8, 8), kind)
    if kind != "rough_mask":
        with pytest.raises(InputError, match="blue brush"):
            painted_guide(strokes((UNSURE, BODY)), (40, 40), kind)


# --- layers ---


def test_rows_leave_a_stack_as_it_is() -> None:
    stack = stack_of(RED, BLUE)
    stack[1].opacity = 0.5
    same = arrange(stack, rows_of(stack))
    assert [row["name"] for row in rows_of(stack)] == ["layer 1", "layer 0"]  # the front one first
    assert same.flatten().tobytes() == stack.flatten().tobytes()
    assert same.size == stack.size


def test_rows_order_name_hide_and_fade() -> None:
    stack = stack_of(RED, BLUE)
    front, back = rows_of(stack)
    assert arrange(stack, [back, front]).flatten().getpixel((0, 0)) == RED
    assert arrange(stack, [front | {"visible": False}, back]).flatten().getpixel((0, 0)) == RED
    faded = np.asarray(arrange(stack, [front | {"opacity": 50}, back]).flatten())[0, 0]
    assert np.abs(np.subtract(faded, (128, 0, 128, 255))).max() <= 1
    named = arrange(stack, [front | {"name": " sky " + "x" * 200}, back | {"name": ""}])
    assert [layer.name for layer in named] == ["layer 0", ("sky " + "x" * 200)[:80]]
    assert stack[1].visible  # the stack itself stays


@pytest.mark.parametrize("rows", [[], [{"index": 0}], "rows", [{"index": 7}, {"index": 0}], [None, None]])
def test_rows_that_do_not_fit_are_refused(rows: list[object]) -> None:
    with pytest.raises(InputError, match="reload the page"):
        arrange(stack_of(RED, BLUE), rows)


# --- what is shown ---


def test_backdrops() -> None:
    glass = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    assert lay_over(glass, "white").getpixel((0, 0)) == (255, 255, 255)
    assert over_backdrop(glass, Backdrop(kind="black")).getpixel((0, 0)) == (0, 0, 0)
    assert over_backdrop(glass, Backdrop(kind="colour", colour="rgba(12.4, 200, 0, 1)")).getpixel((0, 0)) == (
        12,
        200,
        0,
    )
    board = over_backdrop(glass, Backdrop())
    assert {board.getpixel((x, 0)) for x in range(8)} == {(255, 255, 255), (205, 205, 205)}
    with pytest.raises(InputError, match="#rrggbb"):
        over_backdrop(glass, Backdrop(kind="colour", colour="rgba(oops"))
    with pytest.raises(InputError, match="at least 1"):
        checkerboard((4, 4), cell=0)


def test_an_own_picture_covers_the_view(tmp_path: Path) -> None:
    half = Image.new("RGB", (40, 10), "lime")
    half.paste("blue", (0, 0, 5, 10))  # cropped away
    half.save(tmp_path / "own.png")
    shown = over_backdrop(Image.new("RGBA", (10, 10)), Backdrop(kind="picture", picture=tmp_path / "own.png"))
    assert shown.getcolors() == [(100, (0, 255, 0))]


def test_large_stacks_are_shown_small() -> None:
    stack = LayerStack([Layer(Image.new("RGBA", (40, 20), RED), offset=(60, 10))], size=(100, 50))
    small = shrunk(stack, side=50)
    assert small.size == (50, 25)
    assert small[0].image.size == (20, 10)
    assert small[0].offset == (30, 5)
    assert shrunk(stack, side=100) is stack


def test_before_and_after_have_one_size() -> None:
    shown = Image.new("RGB", (8, 6), "red")
    pair = before_and_after(Image.new("RGBA", (16, 12), (0, 0, 0, 0)), shown, Backdrop(kind="white"))
    assert pair is not None
    assert pair[0].size == (8, 6)
    assert pair[0].getpixel((0, 0)) == (255, 255, 255)
    assert before_and_after(None, shown, Backdrop()) is None


# --- history ---


def entry(size: tuple[int, int] = (10, 10)) -> Entry:
    return Entry(work=Work(task="matting_auto"), images=(), stack=stack_of(RED, size=size), seconds=0.1)


def test_old_results_make_room_and_take_their_files_along(tmp_path: Path) -> None:
    history = History(tmp_path, max_pixels=250)
    entries = [entry() for _ in range(3)]
    for kept in entries[:2]:
        (history.files(kept.key) / "layers.psd").touch()
        history.add(kept)
    assert history.get(entries[0].key) is entries[0]  # used last: the other one has to go
    history.add(entries[2])
    assert history.kept(item.key for item in entries) == [entries[0], entries[2]]
    with pytest.raises(InputError, match="run it again"):
        history.get(entries[1].key)
    assert [folder.name for folder in tmp_path.iterdir()] == [entries[0].key]


def test_the_newest_result_is_kept_whatever_its_size(tmp_path: Path) -> None:
    history = History(tmp_path, max_pixels=10)
    large = entry((100, 100))
    history.add(large)
    assert history.get(large.key).pixels == 10_000


def test_a_visit_ends(tmp_path: Path) -> None:
    history = History(tmp_path)
    one = entry()
    history.files(one.key)
    history.add(one)
    history.forget([one.key, "never there"])
    assert history.kept([one.key]) == []
    assert not list(tmp_path.iterdir())


# --- files ---


def test_three_layers_as_psd(tmp_path: Path) -> None:
    stack = stack_of(RED, BLUE, (0, 255, 0, 128))
    front, *others = rows_of(stack)
    arranged = arrange(stack, [front | {"name": "glass", "visible": False}, *others])
    file = download.export(arranged, "psd", tmp_path, "Barrel, 2 / café")
    opened = PSDImage.open(file)
    assert file.name == "barrel-2-cafe.psd"
    assert [(layer.name, layer.visible) for layer in opened] == [("layer 0", True), ("layer 1", True), ("glass", False)]


@pytest.mark.parametrize("format", [format for _, format in download.choices()])
def test_every_choice_writes_its_file(format: str, tmp_path: Path) -> None:
    file = download.export(stack_of(RED, BLUE), format, tmp_path, "")
    assert file.stat().st_size > 0
    if format == "png":
        with zipfile.ZipFile(file) as archive:
            archive.extractall(tmp_path / "there")
        (file,) = (tmp_path / "there").iterdir()
    if format in ("svg", "pptx", "preview"):  # are written only
        return
    opened = formats.open(file)
    assert np.abs(np.subtract(np.asarray(opened.flatten())[3, 4], BLUE)).max() <= 4  # AVIF is lossy
    if format not in ("png-flat", "webp", "avif"):
        assert [layer.name for layer in opened] == ["layer 0", "layer 1"]


def test_all_formats_can_be_chosen_by_a_name_of_their_own() -> None:
    labels, chosen = zip(*download.choices(), strict=True)
    assert sorted(chosen) == sorted(formats.FORMATS)
    assert len(set(labels)) == len(labels)
    assert set(labels).isdisjoint(formats.FORMATS)


# --- runs ---


def run_of(
    steps: int, result: LayerStack | Exception, gate: threading.Event | None = None
) -> Callable[..., LayerStack]:
    def run(work: Work, images: Sequence[Path], report: Progress, cancel: threading.Event) -> LayerStack | None:
        for step in range(steps):
            report(step + 1, steps)
            if gate is not None and not gate.wait(10):
                raise TimeoutError
            if cancel.is_set():
                return None
        if isinstance(result, Exception):
            raise result
        return result

    return run  # type: ignore[return-value]


def test_progress_then_layers() -> None:
    stack = stack_of(RED)
    steps = follow(run_of(3, stack), Work(task="matting_auto"), (), threading.Event())
    assert [next(steps) for _ in range(3)] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is stack


def test_cancelling_ends_a_run() -> None:
    gate, cancel = threading.Event(), threading.Event()
    steps = follow(run_of(9, stack_of(RED), gate), Work(task="matting_auto"), (), cancel)
    assert next(steps) == (1, 9)
    cancel.set()
    gate.set()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is None


def test_a_visitor_who_leaves_cancels() -> None:
    gate, cancel = threading.Event(), threading.Event()
    steps = follow(run_of(9, stack_of(RED), gate), Work(task="matting_auto"), (), cancel)
    next(steps)
    steps.close()
    assert cancel.is_set()
    gate.set()


def test_errors_of_a_run_arrive() -> None:
    with pytest.raises(ImageError, match="broken"):
        list(follow(run_of(0, ImageError("broken")), Work(task="matting_auto"), (), threading.Event()))


# --- words ---


def test_errors_are_one_line_without_a_traceback() -> None:
    assert problem_line(InputError("<text> is\nmissing")) == (
        '<p class="problem" role="alert">&lt;text&gt; is missing</p>'
    )
    assert "/secret" not in problem_line(KeyError("/secret/path"))


def test_progress_with_and_without_an_end() -> None:
    assert 'value="2" max="8"' in progress("Step", 2, 8)
    assert progress("Wait", 0, 0).endswith("<progress></progress>")
    assert "&lt;b&gt;" in said("<b>")
