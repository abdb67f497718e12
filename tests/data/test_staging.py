"""Realistic scenes: layers stay true, shadows are in the composite only, draws are seeded."""

import numpy as np
import pytest
from PIL import Image

from corpus import make_corpus
from omnialpha.data.scenes import Backdrop, Corpus, as_cutout, composite_over
from omnialpha.data.soft_alpha import glass, smoke
from omnialpha.data.staging import draw_staged_scene, stage

GREY = Backdrop(image=Image.new("RGB", (90, 60), (128, 128, 128)), caption="a wall", name="wall")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(make_corpus(tmp_path_factory.mktemp("staging") / "c"), "train")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_composite_is_the_layers_and_their_shadows(corpus: Corpus, count: int) -> None:
    scene = draw_staged_scene(corpus, np.random.default_rng(3), 64, count)
    assert scene.background is not None
    assert len(scene.foregrounds) == len(scene.captions) == count
    flat = scene.background
    for layer in reversed(scene.foregrounds):
        flat = composite_over(layer, flat)
        assert layer.dtype == np.float32
        assert 0 <= layer.min() <= layer.max() <= 1
        assert layer[..., 3].mean() > 0.01
        assert (layer[layer[..., 3] == 0] == 0).all()
    difference = scene.composite - flat
    assert difference.max() < 1e-6
    assert difference.min() < -0.1
    front = scene.foregrounds[0][..., 3] == 1
    np.testing.assert_allclose(scene.composite[front], scene.foregrounds[0][front], atol=1e-6)


def test_what_is_in_front_stands_lower(corpus: Corpus) -> None:
    for seed in range(6):
        scene = draw_staged_scene(corpus, np.random.default_rng(seed), 64, 3)
        feet = [int(np.flatnonzero((layer[..., 3] > 0.5).any(axis=1))[-1]) for layer in scene.foregrounds]
        assert feet == sorted(feet, reverse=True)
        assert feet[-1] >= 0.7 * 64


def test_a_seed_fixes_the_scene(corpus: Corpus) -> None:
    first, same, other = (draw_staged_scene(corpus, np.random.default_rng(s), 48, 2, soft=0.5) for s in (5, 5, 6))
    assert np.array_equal(first.composite, same.composite)
    assert first.captions == same.captions
    assert not np.array_equal(first.composite, other.composite)


def test_what_flies_is_higher_and_throws_no_shadow() -> None:
    square = Image.new("RGBA", (30, 30), (200, 40, 40, 255))
    feet = {}
    for caption in ("a hen", "a red kite"):
        scene = stage([as_cutout(square, caption=caption, name="x")], GREY, np.random.default_rng(2), (64, 48))
        assert scene.composite.shape == (48, 64, 4)
        assert scene.composite_caption == f"{caption}, a wall"
        covered = scene.foregrounds[0][..., 3] > 0
        feet[caption] = int(np.flatnonzero(covered.any(axis=1))[-1])
        shadow = (scene.composite[..., 0] < 0.45) & ~covered
        assert shadow.any() == (caption == "a hen")
    assert feet["a red kite"] < feet["a hen"] - 5


def test_white_keeps_no_dark_rim() -> None:
    y, x = np.mgrid[0:64, 0:64] - 31.5
    alpha = np.clip(24 - np.hypot(x, y), 0, 1) * 255
    white = Image.fromarray(np.dstack([np.full((64, 64, 3), 255.0), alpha]).astype(np.uint8))
    white_wall = Backdrop(image=Image.new("RGB", (64, 64), "white"), caption="snow", name="snow")
    for seed in range(4):
        scene = stage([as_cutout(white, caption="a moon", name="m")], white_wall, np.random.default_rng(seed), (64, 64))
        assert scene.composite[..., :3].min() > 0.93


def test_glass_is_seen_through_in_the_middle_and_keeps_its_rim() -> None:
    y, x = np.mgrid[0:80, 0:80] - 39.5
    alpha = (np.hypot(x, y) < 36) * 255
    ball = Image.fromarray(np.dstack([np.full((80, 80), v) for v in (40, 90, 160)] + [alpha]).astype(np.uint8))
    made = glass(as_cutout(ball, caption="a ball.", name="ball", weight=3.0), np.random.default_rng(0))
    opacity = np.asarray(made.image.getchannel("a")) / 255
    assert 0.1 < opacity[40, 40] < 0.5
    assert opacity[40, 4] > opacity[40, 40] + 0.25
    assert (opacity[alpha == 0] == 0).all()
    assert (made.caption, made.name, made.weight) == ("a ball made of glass", "ball (synthetic glass)", 3.0)
    # A highlight stays.
    shiny = ball.copy()
    shiny.paste((255, 255, 255, 255), (36, 36, 44, 44))
    lit = glass(as_cutout(shiny, caption="a ball", name="ball"), np.random.default_rng(0))
    assert lit.image.getpixel((40, 40))[3] > 200  # type: ignore[index]


def test_smoke_is_soft_everywhere() -> None:
    for seed in range(5):
        wisp = smoke(np.random.default_rng(seed), 64)
        alpha = np.asarray(wisp.image.getchannel("a"), np.float32) / 255
        assert 0.4 < alpha.max() < 1
        assert ((alpha > 0.03) & (alpha < 0.97)).mean() > 0.2
        assert np.abs(np.diff(alpha, axis=0)).max() < 0.35
        assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) < 0.1
        assert wisp.name == "synthetic smoke"
        assert "smoke" in wisp.caption


def test_a_share_of_the_objects_becomes_soft(corpus: Corpus) -> None:
    scenes = [draw_staged_scene(corpus, np.random.default_rng(s), 32, soft=1.0) for s in range(8)]
    captions = [scene.captions[0] for scene in scenes]
    assert {"glass" in caption or "smoke" in caption for caption in captions} == {True}
    assert len({"glass" in caption for caption in captions}) == 2
