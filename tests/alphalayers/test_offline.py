"""The backends without a model: true layers, seeded draws, shadows outside of the layers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from corpus import make_corpus
from omnialpha.alphalayers import backends
from omnialpha.alphalayers.offline import photographs
from omnialpha.errors import InputError, RejectedError
from triplets import triplet


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("offline") / "corpus")


def test_captions_come_from_the_sample(tmp_path: Path) -> None:
    captioner = backends.captioner("offline", replies=tmp_path)
    sample = triplet(tmp_path)
    assert captioner.caption_foreground(sample) == "a red disk"
    scene = captioner.replace_instruction(sample).removeprefix("Replace the background with ").removesuffix(".")
    assert captioner.imagine(sample) == f"a red disk in {scene}"
    scenes = {captioner.replace_instruction(triplet(tmp_path, seed=seed)) for seed in range(20)}
    assert len(scenes) > 4
    assert captioner.caption_background(sample) == "a park"
    assert captioner.caption_background(triplet(tmp_path, true_background_caption="a beach")) == "a beach"
    with pytest.raises(RejectedError, match="name the file"):
        captioner.caption_foreground(triplet(tmp_path, given_caption=""))


def test_the_editor_returns_the_layers_of_its_composite(corpus: Path, tmp_path: Path) -> None:
    editor = backends.editor(f"offline:{corpus}")
    edited = editor.edit(triplet(tmp_path, (64, 64)))
    assert edited.background is not None
    assert edited.background_caption.startswith("a background")
    assert edited.composite.size == edited.foreground.size == edited.background.size == (64, 64)
    recomposed = edited.background.convert("RGBA")
    recomposed.alpha_composite(edited.foreground)
    composite, flat = (np.asarray(image.convert("RGB"), int) for image in (edited.composite, recomposed))
    alpha = np.asarray(edited.foreground)[..., 3]
    assert abs(composite - flat)[alpha == 255].max() <= 1  # the light match is in the layer
    assert (composite - flat).max() <= 2  # a shadow only darkens
    assert (composite - flat).min() < -15  # and there is one
    assert 0.05 < (alpha > 0).mean() < 0.7


def test_a_seed_fixes_what_the_editor_draws(corpus: Path, tmp_path: Path) -> None:
    editor = backends.editor(f"offline:{corpus}")
    first, again, other = (editor.edit(triplet(tmp_path, seed=seed)).composite for seed in (1, 1, 2))
    assert ImageChops.difference(first, again).getbbox() is None
    assert ImageChops.difference(first, other).getbbox() is not None


def test_tall_cutouts_get_a_wider_canvas_and_landscapes_need_no_folder(tmp_path: Path) -> None:
    sample = triplet(tmp_path, (20, 60))
    edited = backends.editor("offline:procedural").edit(sample)
    assert edited.composite.size == (45, 60)
    assert len(edited.background_caption.split()) > 3


def test_photographs_of_one_split(corpus: Path, tmp_path: Path) -> None:
    whole, train = photographs(corpus), photographs(corpus, "train")
    assert len(whole) == 4
    assert set(train) < set(whole)
    a, b = backends.editor(f"offline:{corpus}"), backends.editor(f"offline:{corpus}?split=train")
    assert a.settings != b.settings
    with pytest.raises(InputError, match="no background of split tets"):
        photographs(corpus, "tets")
    Image.new("RGB", (4, 4)).save(tmp_path / "sandy-beach_2.jpg")
    assert photographs(tmp_path) == [(tmp_path / "sandy-beach_2.jpg", "sandy beach")]
    with pytest.raises(InputError, match="leave split=train out"):
        photographs(tmp_path, "train")


def test_an_invisible_foreground_is_rejected(corpus: Path, tmp_path: Path) -> None:
    sample = triplet(tmp_path)
    Image.new("RGBA", (8, 8)).save(sample.foreground)
    with pytest.raises(RejectedError, match="nothing of the foreground"):
        backends.editor(f"offline:{corpus}").edit(sample)


def test_the_remover_hands_on_the_true_background(tmp_path: Path) -> None:
    remover = backends.remover("offline")
    sample = triplet(tmp_path)
    with pytest.raises(InputError, match="--editor offline:BACKDROPS"):
        remover.remove(sample)
    known = triplet(tmp_path, true_background=sample.background)
    assert known.true_background is not None
    assert remover.remove(known).tobytes() == Image.open(known.true_background).tobytes()
