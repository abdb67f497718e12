"""Tasks from corpora and manifests: all 21, in the shares asked for, only where a sample can serve them."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from corpus import make_corpus
from layered import write_sample
from omnialpha.data.groups import MIXTURE, UNIFORM, corpus_groups, sample_groups, serves
from omnialpha.data.loader import draw_batch
from omnialpha.data.scenes import Corpus
from omnialpha.errors import InputError
from omnialpha.tasks import TASKS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus(make_corpus(tmp_path_factory.mktemp("corpora") / "c"), "train")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    sizes = [(48, 32), (32, 48), (64, 64), (96, 64), (30, 46)]
    return [write_sample(folder, f"s{i}", size=size, foregrounds=1 + i % 2) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("mixture", [MIXTURE, UNIFORM])
def test_mixtures_cover_all_21_tasks(mixture) -> None:
    assert set(mixture) == set(TASKS)
    assert all(sum(weights) > 0 for weights in mixture.values())


def test_a_corpus_gives_all_tasks_in_the_shares_of_the_mixture(corpus) -> None:
    groups = corpus_groups(corpus, size=32)
    structures = {(group.num_inputs, group.num_targets): group.weight for group in groups}
    assert set(structures) == {(0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (1, 3)}
    assert structures[0, 1] == 1.0
    assert structures[1, 3] == 0.6
    assert sum(structures.values()) == pytest.approx(sum(sum(weights) for weights in MIXTURE.values()))
    guided = next(group for group in groups if (group.num_inputs, group.num_targets) == (2, 2))
    drawn = Counter(guided.draw(0, np.random.default_rng(i)).task for i in range(80))
    assert set(drawn) == {f"decomposition_{guide}" for guide in ("alpha", "trimap", "precise_mask", "rough_mask")}


def test_every_batch_of_a_mixed_manifest_has_one_shape_and_structure(samples) -> None:
    groups = sample_groups(samples, area=64 * 64, grid=16)
    assert len({group.size for group in groups}) >= 3
    seen = set()
    for step in range(40):
        examples = draw_batch(groups, seed=0, step=step, batch_size=3)
        shapes = {picture.shape for example in examples for picture in (*example.inputs, *example.targets)}
        assert len(shapes) == 1
        assert len({(len(example.inputs), len(example.targets)) for example in examples}) == 1
        seen |= {example.task for example in examples}
    assert len(seen) > 12


def test_tasks_are_drawn_as_the_mixture_says_however_many_samples_serve_them(samples) -> None:
    # Only one sample has a background; removal is still to come as often as matting.
    lame = [samples[0], *(dataclasses.replace(sample, background=None) for sample in samples[1:])]
    groups = sample_groups(lame, {"matting_auto": (1.0,), "removal_auto": (1.0,)}, area=32 * 32, grid=16)
    tasks = Counter(
        example.task for step in range(150) for example in draw_batch(groups, seed=0, step=step, batch_size=1)
    )
    assert tasks["removal_auto"] == pytest.approx(75, abs=20)


def test_a_sample_serves_what_it_has_pictures_and_captions_for(samples) -> None:
    sample = samples[0]
    assert all(serves(sample, task) for task in TASKS.values())
    silent = dataclasses.replace(sample, captions=("",))
    assert {name for name, task in TASKS.items() if not serves(silent, task)} == {
        "text_to_image", "foreground_to_composite", "background_to_foreground", "background_to_composite",
        "matting_text",
    }  # fmt: skip
    cutout = dataclasses.replace(sample, background=None, composite=None)
    assert [name for name, task in TASKS.items() if serves(cutout, task)] == ["text_to_image"]


def test_wrong_mixtures_are_refused(corpus, samples) -> None:
    with pytest.raises(InputError, match='did you mean "matting_auto"'):
        corpus_groups(corpus, {"matting_atuo": (1.0,)}, size=32)
    with pytest.raises(InputError, match="no weight above 0"):
        corpus_groups(corpus, {"matting_auto": (0.0,)}, size=32)
    with pytest.raises(InputError, match="0 or more"):
        corpus_groups(corpus, {"matting_auto": (-1.0,)}, size=32)
    silent = [dataclasses.replace(sample, captions=("",) * len(sample.captions)) for sample in samples]
    with pytest.raises(InputError, match="none of 5 samples serves"):
        sample_groups(silent, {"text_to_image": (1.0,)}, area=32 * 32, grid=16)
