"""Scenes: exact composition, seeded draws, splits kept apart."""

import numpy as np
import pytest
from PIL import Image

from corpus import make_corpus
from omnialpha.data.scenes import PHOTO_WEIGHT, Corpus, draw_scene, place
from omnialpha.errors import InputError


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpora") / "c")


def test_splits_share_nothing(corpora) -> None:
    train, test = Corpus(corpora, "train"), Corpus(corpora, "test")
    for kind in ("cutouts", "backdrops"):
        names = [{picture.name for picture in getattr(corpus, kind)} for corpus in (train, test)]
        assert names[0]
        assert names[1]
        assert not names[0] & names[1]


def test_photographs_are_drawn_more_often(corpora) -> None:
    corpus = Corpus(corpora, "train")
    assert corpus.weights.max() == pytest.approx(PHOTO_WEIGHT * corpus.weights.min())
    assert corpus.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_composite_is_the_layers_over_the_background(corpora, count) -> None:
    scene = draw_scene(Corpus(corpora, "train"), np.random.default_rng(3), 48, count)
    assert scene.background is not None
    assert len(scene.foregrounds) == len(scene.captions) == count
    # Pillow composites the same layers with its own arithmetic (8 bit).
    as_pil = [Image.fromarray((p * 255).round().astype(np.uint8)) for p in (scene.background, *scene.foregrounds[::-1])]
    flat = as_pil[0]
    for layer in as_pil[1:]:
        flat = Image.alpha_composite(flat, layer)
    np.testing.assert_allclose(np.asarray(flat) / 255, scene.composite, atol=(1 + count) / 255)
    assert (scene.background[..., 3] == 1).all()
    assert (scene.composite[..., 3] == 1).all()
    for pixels in scene.foregrounds:
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        assert 0.02 < pixels[..., 3].mean() < 0.9
        assert (pixels[pixels[..., 3] == 0] == 0).all()


def test_a_seed_fixes_the_scene(corpora) -> None:
    corpus = Corpus(corpora, "train")
    first, same, other = (draw_scene(corpus, np.random.default_rng(s), 32, 2) for s in (5, 5, 6))
    assert np.array_equal(first.composite, same.composite)
    assert first.captions == same.captions
    assert not np.array_equal(first.composite, other.composite)


def test_placing_leaves_no_dark_rim() -> None:
    # A white disk with a soft border: resized and tilted, its colour must stay white down to alpha 0.
    y, x = np.mgrid[0:64, 0:64] - 31.5
    alpha = np.clip(24 - np.hypot(x, y), 0, 1) * 255
    white = np.dstack([np.full((64, 64, 3), 255.0), alpha]).astype(np.uint8)
    cutout = Image.fromarray(white).convert("RGBa")
    for seed in range(8):
        layer = place(cutout, np.random.default_rng(seed), 40, scale=0.8, anchor=(0.5, 0.5))
        visible = layer[layer[..., 3] > 0.1][:, :3]
        assert np.ptp(visible, axis=1).max() < 0.06
        assert visible.min() > visible.max() - 0.1


def test_missing_index_and_empty_split_are_explained(tmp_path) -> None:
    with pytest.raises(InputError, match=r"omnialpha\.data\.corpora"):
        Corpus(tmp_path, "train")
    with pytest.raises(InputError, match="'test' has 0 cut-outs"):
        Corpus(make_corpus(tmp_path / "c", cutouts=1, backdrops=1), "test")
