"""One stage of one sample: what it asks, what it keeps, and whose fault an error is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnialpha.alphalayers.advance import Dropped, advance, ask, lookup
from omnialpha.alphalayers.backends import Edited
from omnialpha.alphalayers.masking import four_masks, write_masks
from omnialpha.alphalayers.score import score
from omnialpha.alphalayers.stages import STAGES
from omnialpha.alphalayers.store import Store
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.errors import EndpointError, InputError, MissingExtraError, RefusedError, RejectedError
from omnialpha.imaging import masks

SIZE = (24, 16)


class Backend:
    """All three roles; answers with what it is given, counts, or raises."""

    workers = 1

    def __init__(self, name: str = "fake", error: Exception | None = None, size: tuple[int, int] = SIZE) -> None:
        self.name, self.settings = name, {"name": name}
        self.error, self.size = error, size
        self.seen: list[Triplet] = []

    def _called(self, sample: Triplet) -> None:
        self.seen.append(sample)
        if self.error is not None:
            raise self.error

    def caption_foreground(self, sample: Triplet) -> str:
        self._called(sample)
        return f"a {sample.given_caption}"

    def edit(self, sample: Triplet) -> Edited:
        self._called(sample)
        scene = Image.new("RGB", self.size, "blue")
        return Edited(composite=scene, foreground=Image.open(sample.foreground).convert("RGBA"), background=scene)


@pytest.fixture
def sample(tmp_path: Path) -> Triplet:
    pixels = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    pixels[4:12, 4:20] = (200, 40, 40, 255)
    Image.fromarray(pixels).save(tmp_path / "cutout.png")
    return Triplet(
        id="00ff", seed=3, name="tests/kite", source="tests", licence="CC0", identity="kite", given_caption="kite",
        foreground=tmp_path / "cutout.png",
    )  # fmt: skip


def test_a_finished_stage_is_not_run_again(sample: Triplet, tmp_path: Path) -> None:
    store, backend = Store(tmp_path / "store"), Backend()
    assert lookup(STAGES["caption"], sample, backend, store) is None

    first = advance(STAGES["caption"], sample, backend, store)
    again = advance(STAGES["caption"], sample, backend, store)

    assert isinstance(first, Triplet)
    assert first == again == lookup(STAGES["caption"], sample, backend, store)
    assert first.foreground_caption == "a kite"
    assert first.stages == {"caption": ask(STAGES["caption"], sample, backend).key}
    assert len(backend.seen) == 1
    assert isinstance(advance(STAGES["caption"], sample, Backend("other"), store), Triplet)
    assert len(list((tmp_path / "store" / "caption").glob("*/*.json"))) == 2  # another backend is another question


def test_a_backend_sees_nothing_that_is_not_in_the_key(sample: Triplet, tmp_path: Path) -> None:
    backend = Backend()
    advanced = advance(STAGES["caption"], replace(sample, instruction="x", score=1.0), backend, Store(tmp_path / "s"))

    (seen,) = backend.seen
    assert (seen.given_caption, seen.seed, seen.foreground) == ("kite", 3, sample.foreground)
    assert (seen.instruction, seen.score, seen.source, seen.name) == ("", None, "", "")
    assert isinstance(advanced, Triplet)
    assert (advanced.instruction, advanced.source) == ("x", "tests")
    other = replace(sample, source="b", name="b", licence="b", instruction="y")
    assert ask(STAGES["caption"], other, backend) == ask(STAGES["caption"], sample, backend)
    assert ask(STAGES["caption"], replace(sample, seed=4), backend) != ask(STAGES["caption"], sample, backend)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RejectedError("caption", "no JSON"), "rejected", "no JSON"),
        (RefusedError("too long"), "failed", "too long"),
        (RuntimeError("CUDA out\nof memory"), "failed", "RuntimeError: CUDA out of memory"),
    ],
)
def test_a_bad_sample_is_recorded_and_tried_again_only_when_asked(
    sample: Triplet, tmp_path: Path, error: Exception, kind: str, reason: str
) -> None:
    store, backend = Store(tmp_path / "store"), Backend(error=error)
    stage = STAGES["caption"]
    dropped = Dropped(id="00ff", name="tests/kite", stage="caption", kind=kind, reason=reason)

    assert advance(stage, sample, backend, store) == dropped
    backend.error = None
    assert advance(stage, sample, backend, store) == dropped
    assert len(backend.seen) == 1

    retried = advance(stage, sample, backend, store, retry_failed=True)
    assert isinstance(retried, Triplet) == (kind == "failed")
    assert advance(stage, sample, backend, store) == retried


@pytest.mark.parametrize("error", [EndpointError("no answer"), MissingExtraError("pip install")])
def test_what_is_no_samples_fault_ends_the_run_and_is_not_recorded(
    sample: Triplet, tmp_path: Path, error: Exception
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(type(error)):
        advance(STAGES["caption"], sample, Backend(error=error), store)
    assert lookup(STAGES["caption"], sample, Backend(), store) is None


def test_edit_keeps_pictures_and_leaves_an_unchanged_foreground_where_it_is(sample: Triplet, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    edited = advance(STAGES["edit"], sample, Backend(), store)

    assert isinstance(edited, Triplet)
    assert edited.foreground == sample.foreground
    assert edited.read_composite()[0, 0].tolist() == [0, 0, 1]
    assert edited.true_background is not None
    wrong = advance(STAGES["edit"], sample, Backend("wrong", size=(5, 5)), store)
    assert isinstance(wrong, Dropped)
    assert "(5, 5)" in wrong.reason


def test_an_editor_with_scenes_of_its_own_corrects_what_was_imagined(sample: Triplet, tmp_path: Path) -> None:
    class Scenic(Backend):
        def edit(self, sample: Triplet) -> Edited:
            return replace(super().edit(sample), background_caption="a beach")

    asked = replace(sample, foreground_caption="a kite", instruction="Replace the background with a moor.")
    edited = advance(STAGES["edit"], asked, Scenic(), Store(tmp_path / "store"))
    assert isinstance(edited, Triplet)
    assert edited.composite_caption == "a kite, a beach"
    assert edited.instruction == "Replace the background with a beach."


def test_score_and_masks_are_those_of_their_modules(sample: Triplet, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    edited = advance(STAGES["edit"], sample, Backend(), store)
    assert isinstance(edited, Triplet)
    done: Any = advance(STAGES["score"], replace(edited, background=edited.true_background), None, store)
    expected = score(sample.read_foreground(), edited.read_composite(), edited.read_composite())
    assert done.score == pytest.approx(expected.total, abs=1e-12)
    assert store.read("score", done.stages["score"])["result"]["values"]["foreground_error"] == expected.foreground

    masked: Any = advance(STAGES["masks"], done, None, store)
    with Image.open(store.picture("masks", masked.stages["masks"], "precise")) as precise:
        alpha = (sample.read_foreground()[..., 3] * 255).astype(np.uint8)
        assert np.array_equal(np.asarray(precise), masks.precise_mask(alpha))


def test_masks_depend_on_the_alpha_alone(tmp_path: Path) -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[10:30, 15:45] = 255
    first, second = four_masks(alpha), four_masks(alpha.copy())
    assert {name: mask.tobytes() for name, mask in first.items()} == {n: m.tobytes() for n, m in second.items()}
    trimap = np.asarray(first["trimap"])
    assert np.array_equal(np.asarray(first["rough"]), masks.rough_mask(trimap))
    widths = {int((np.asarray(four_masks(np.roll(alpha, step, 1))["trimap"]) == 128).sum()) for step in range(12)}
    assert len(widths) > 1  # the disk is drawn anew for another alpha

    Image.fromarray(alpha).save(tmp_path / "matte.png")
    Image.fromarray(np.dstack([alpha, alpha, alpha, alpha])).save(tmp_path / "cutout.png")
    folders = list(write_masks([tmp_path / "matte.png", tmp_path / "cutout.png"], tmp_path / "out"))
    for name in ("alpha", "precise", "trimap", "rough"):
        of_matte, of_cutout = ((folder / f"{name}.png").read_bytes() for folder in folders)
        assert of_matte == of_cutout
    with pytest.raises(InputError, match="rename one"):
        list(write_masks([tmp_path / "matte.png", tmp_path / "other" / "matte.png"], tmp_path / "out"))
