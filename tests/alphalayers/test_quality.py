"""What is measured of cut-outs, and which are left out; hashes against ImageHash, near-duplicates against all pairs."""

import dataclasses
import json
import random
import sys
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omnialpha.alphalayers.quality import Limits, Quality, isolated, judge, measure, near_duplicates
from omnialpha.errors import InputError

GOOD = Quality(
    width=100, height=100, box=(10, 10, 90, 80), coverage=0.4, soft=0.1, contact=(0.0,) * 4, hash="00ff00ff00ff00ff"
)


def _cutout(
    height: int = 60, width: int = 80, *, centre: tuple[int, int] = (30, 40), radius: int = 20, seed: int = 0
) -> Any:
    """A soft disk covered with blotches."""
    y, x = np.mgrid[0:height, 0:width]
    alpha = np.clip(radius + 0.5 - np.hypot(y - centre[0], x - centre[1]), 0, 1)
    blotches = np.random.default_rng(seed).random((5, 5, 3))
    rows, columns = ((axis - middle + 2 * radius) // radius for axis, middle in ((y, centre[0]), (x, centre[1])))
    return np.dstack([blotches[rows % 5, columns % 5], alpha]).astype(np.float32)


def _quality(**changes: Any) -> Quality:
    return dataclasses.replace(GOOD, **changes)


def test_measures_of_a_disk() -> None:
    found = measure(_cutout())
    assert (found.width, found.height) == (80, 60)
    assert found.box == (20, 10, 61, 51)
    assert found.extent == 41
    assert found.coverage == pytest.approx(np.pi * 20.0**2 / (60 * 80), rel=0.01)
    assert 0.02 < found.soft < 0.12  # its rim: 2π·20 of π·20² pixels, about
    assert sum(found.contact) == 0
    assert found.aesthetic is None


@pytest.mark.parametrize(
    ("centre", "side"), [((0, 40), "top"), ((30, 79), "right"), ((59, 40), "bottom"), ((30, 0), "left")]
)
def test_an_object_cut_off_by_the_frame(centre: tuple[int, int], side: str) -> None:
    found = measure(_cutout(centre=centre))
    assert max(found.contact) > 0.9
    assert judge({"a": found}, Limits(least_extent=8)) == {
        "a": f"truncated: {max(found.contact):.0%} of it runs into the {side} of the frame, at most 30%"
    }
    assert not judge({"a": found}, Limits(least_extent=8, most_contact=1.0))


def test_a_closely_trimmed_object_is_not_cut_off() -> None:
    """It touches all four sides of its frame, with its soft edge."""
    cutout = _cutout(centre=(30, 40))
    left, top, right, bottom = measure(cutout).box
    trimmed = measure(cutout[top:bottom, left:right])
    assert trimmed.box == (0, 0, trimmed.width, trimmed.height)
    assert max(trimmed.contact) < 0.3


def test_the_hash_is_that_of_imagehash_and_does_not_depend_on_the_place() -> None:
    cutout = _cutout()
    found = measure(cutout)
    square = Image.new("RGB", (41, 41), (128, 128, 128))
    pil = Image.fromarray(np.rint(cutout * 255).astype(np.uint8))
    square.paste(pil.crop(found.box), (0, 0), pil.crop(found.box))
    assert found.hash == str(imagehash.phash(square))
    assert measure(_cutout(100, 90, centre=(70, 25))).hash == found.hash
    hidden = cutout.copy()
    hidden[cutout[..., 3] == 0, :3] = 0.77  # colours that nobody sees
    assert measure(hidden).hash == found.hash


def test_a_larger_copy_is_a_near_duplicate_and_another_object_is_not() -> None:
    qualities = {
        "small": measure(_cutout()),
        "large": measure(_cutout(120, 160, centre=(60, 80), radius=40)),
        "other": measure(_cutout(seed=1)),
    }
    assert judge(qualities, Limits(least_extent=8)) == {"small": "near-duplicate: repeats large"}


def test_elongated_objects_keep_their_shape() -> None:
    cutout = np.zeros((40, 200, 4), np.float32)
    cutout[10:20, 5:195] = 1
    picture = isolated(cutout, measure(cutout).box)
    assert picture.size == (190, 190)
    assert picture.getpixel((95, 95)) == (255, 255, 255)
    assert picture.getpixel((95, 10)) == (128, 128, 128)


def test_scores_are_asked_of_the_visible_part_over_grey() -> None:
    seen: list[Image.Image] = []

    def scorer(picture: Image.Image) -> float:
        seen.append(picture)
        return 5.4321987

    assert measure(_cutout(), scorer).aesthetic == 5.4322
    assert [(picture.mode, picture.size) for picture in seen] == [("RGB", (41, 41))]
    assert measure(np.zeros((8, 8, 4), np.float32), scorer).aesthetic is None
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({"hash": "", "coverage": 0.0}, {}, "empty: nothing is visible"),
        ({"coverage": 0.004}, {}, "nearly empty: 0.40% covered, at least 1.00%"),
        ({"coverage": 1.0}, {}, "no transparency: 100.00% covered, at most 99.00%"),
        ({"box": (0, 0, 63, 20)}, {}, "too small: 63 pixels, at least 64"),
        ({"soft": 0.9}, {"most_soft": 0.5}, "too translucent: 90% of it, at most 50%"),
        ({"aesthetic": 4.2}, {"least_aesthetic": 4.5}, "not beautiful enough: LAION-AES 4.2, at least 4.5"),
    ],
)
def test_reasons(changes: dict[str, Any], limits: dict[str, Any], reason: str) -> None:
    qualities = {"bad": _quality(**changes), "good": _quality(aesthetic=9.0, hash="f" * 16)}
    assert judge(qualities, Limits(**limits)) == {"bad": reason}


def test_the_better_of_two_near_duplicates_stays() -> None:
    plain, large = _quality(), _quality(box=(0, 0, 99, 99))
    assert judge({"a": plain, "b": plain}, Limits()) == {"b": "near-duplicate: repeats a"}
    assert judge({"a": plain, "b": large}, Limits()) == {"a": "near-duplicate: repeats b"}
    loved = _quality(aesthetic=7.0)
    assert judge({"a": large, "b": loved}, Limits()) == {"a": "near-duplicate: repeats b"}
    assert judge({"a": plain, "b": plain}, Limits(distance=-1)) == {}


def test_a_share_that_looks_best_is_kept() -> None:
    qualities = {f"{i}": _quality(aesthetic=float(i), hash=f"{i * 0x1111:016x}") for i in range(10)}
    dropped = judge(qualities, Limits(keep_share=0.4, distance=-1))
    assert dropped == {f"{i}": "not among the 40% that look best" for i in range(6)}


def test_scores_that_were_not_measured_are_asked_for() -> None:
    with pytest.raises(InputError, match="1 of 2 cut-outs have no aesthetic score; name CLIP"):
        judge({"a": GOOD, "b": _quality(aesthetic=5.0)}, Limits(least_aesthetic=4.0))


HASHES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.lists(st.integers(0, 63), max_size=4), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(flips=HASHES, distance=st.integers(-1, 64))
def test_near_duplicates_are_those_that_comparing_all_finds(flips: dict[str, list[int]], distance: int) -> None:
    """Hashes around two centres, a few bits off."""
    hashes = {}
    for name, bits in flips.items():
        value = 0 if len(name) % 2 else (1 << 64) - 1
        for bit in bits:
            value ^= 1 << bit
        hashes[name] = f"{value:016x}"
    kept: list[str] = []
    expected = []
    for name, digits in hashes.items():
        same = [o for o in kept if (int(hashes[o], 16) ^ int(digits, 16)).bit_count() <= distance]
        if same:
            expected.append((name, same[0]))
        else:
            kept.append(name)
    assert list(near_duplicates(hashes, distance)) == expected


def test_order_does_not_matter() -> None:
    rng = random.Random(0)
    hashes = [rng.getrandbits(64) for _ in range(8)]
    qualities = {
        f"{i:02}": _quality(hash=f"{rng.choice(hashes) ^ 1 << rng.randrange(64):016x}", coverage=rng.random())
        for i in range(60)
    }
    expected = judge(qualities, Limits(least_coverage=0.1))
    assert 40 < len(expected) < 60
    for seed in range(5):
        shuffled = list(qualities.items())
        random.Random(seed).shuffle(shuffled)
        found = judge(dict(shuffled), Limits(least_coverage=0.1))
        assert list(found.items()) == list(expected.items())


def test_comparisons_do_not_grow_with_the_square() -> None:
    """Of 8,000 hashes, a third of them near another, each is compared with a few; all pairs would be 32 million."""
    rng = random.Random(1)
    values = [rng.getrandbits(64) for _ in range(6_000)]
    values += [value ^ 1 << rng.randrange(64) for value in values[:2_000]]
    rng.shuffle(values)
    comparisons = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal comparisons
        comparisons += event == "c_call" and argument.__name__ == "bit_count"

    sys.setprofile(count)
    found = list(near_duplicates({str(i): f"{value:016x}" for i, value in enumerate(values)}, 4))
    sys.setprofile(None)
    assert len(found) == 2_000
    assert 2_000 <= comparisons < 10 * 8_000


def test_records_survive_json() -> None:
    quality = measure(_cutout(centre=(0, 40)))
    assert Quality.from_json(json.loads(json.dumps(dataclasses.asdict(quality)))) == quality


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(H, W, 4\)"):
        measure(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="scale it first"):
        measure(np.full((4, 4, 4), np.nan))
    with pytest.raises(InputError, match="least_coverage is a share"):
        Limits(least_coverage=5)
    with pytest.raises(InputError, match="distance is a number of bits"):
        Limits(distance=65)
