"""The cache gives what encoding gives, does nothing twice, and survives changes, interruptions and damage."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import tiny
from corpus import make_corpus
from layered import write_sample
from omnialpha.data.groups import corpus_groups, sample_groups
from omnialpha.data.loader import draw_batch
from omnialpha.data.manifest import Sample
from omnialpha.data.scenes import Corpus
from omnialpha.errors import InputError
from omnialpha.models.prompt import PromptEncoder
from omnialpha.training import store
from omnialpha.training.cache import FORGONE, Cache, build_cache
from omnialpha.training.encoding import encode

MIX = {"decomposition_auto": (1.0,), "matting_trimap": (1.0,), "text_to_image": (1.0,)}


def groups_of(samples: list[Sample]):
    return sample_groups(samples, MIX, area=48 * 32, grid=16)


@pytest.fixture(scope="module")
def pipeline():
    return tiny.pipeline()


@pytest.fixture
def samples(tmp_path):
    return [write_sample(tmp_path / "data", name) for name in ("a", "b", "c")]


def test_cached_batches_equal_encoded_ones(pipeline, samples, tmp_path) -> None:
    groups = groups_of(samples)
    report = build_cache(pipeline, groups, tmp_path / "cache", draws=2, seed=3)
    assert report.rows == 3 * 3 * 2
    cache = Cache(tmp_path / "cache")
    assert cache.layer_order == "paper"
    assert [(g.size, g.num_inputs, g.num_targets, g.weight) for g in cache.groups] == [
        (g.size, g.num_inputs, g.num_targets, g.weight) for g in groups
    ]
    for step in range(4):
        rows = draw_batch(cache.groups, seed=0, step=step, batch_size=3)
        source = groups[rows[0].group]
        # The same examples, drawn as the cache says it draws them: seeded by the name of the row.
        assert source.items is not None
        examples = [
            source.draw(list(source.items).index(row.id.split()[0]), np.random.default_rng([3, *row.id.encode()]))
            for row in rows
        ]
        dropped = [False, True, False]
        with torch.no_grad():
            expected = encode(pipeline, examples, dropped)
        cached = cache.collate(rows, dropped)
        assert cached.tasks == expected.tasks
        torch.testing.assert_close(cached.targets_BLCHW, expected.targets_BLCHW, atol=1e-4, rtol=1e-4)
        if expected.inputs_BLCHW is None:
            assert cached.inputs_BLCHW is None
        else:
            torch.testing.assert_close(cached.inputs_BLCHW, expected.inputs_BLCHW, atol=1e-4, rtol=1e-4)
        (hidden, mask), (true_hidden, true_mask) = cached.prompt, expected.prompt
        assert (mask is None) == (true_mask is None)
        real = slice(None) if mask is None else mask
        torch.testing.assert_close(hidden[real], true_hidden[real], atol=1e-4, rtol=1e-4)


def test_building_again_encodes_nothing(pipeline, samples, tmp_path) -> None:
    first = build_cache(pipeline, groups_of(samples), tmp_path / "cache")
    again = build_cache(pipeline, groups_of(samples), tmp_path / "cache")
    assert (again.encoded, again.stale) == (0, 0)
    assert again.reused == first.encoded
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["forgone"] == FORGONE


def test_a_changed_file_or_caption_invalidates_only_itself(pipeline, samples, tmp_path) -> None:
    cache = tmp_path / "cache"
    first = build_cache(pipeline, groups_of(samples), cache)
    changed = [samples[0], dataclasses.replace(samples[1], captions=("another thing",)), samples[2]]
    report = build_cache(pipeline, groups_of(changed), cache)
    assert (report.encoded, report.stale) == (1, 1)  # the one prompt that quotes the caption
    assert samples[2].background is not None
    Image.new("RGB", (48, 32), (9, 9, 9)).save(samples[2].background)
    report = build_cache(pipeline, groups_of(changed), cache)
    assert (report.encoded, report.stale) == (1, 2)  # the one picture: no prompt looks at a target
    # A new sample leaves the draws of the others as they are.
    more = [write_sample(tmp_path / "data", "new"), *changed]
    report = build_cache(pipeline, groups_of(more), cache)
    assert report.encoded + report.reused + 1 > first.encoded
    assert report.reused == first.encoded
    assert report.stale == 2


def test_other_weights_invalidate_what_they_computed(pipeline, samples, tmp_path) -> None:
    groups = groups_of(samples[:1])
    first = build_cache(pipeline, groups, tmp_path / "cache")
    latents = len([name for name in _names(tmp_path / "cache") if name.startswith("picture-")])
    other = tiny.pipeline()
    with torch.no_grad():
        next(other.vae.parameters()).add_(0.1)
    cache = Cache(tmp_path / "cache")
    cache.check(pipeline)
    with pytest.raises(InputError, match="made with another VAE; run"):
        cache.check(other)
    report = build_cache(other, groups, tmp_path / "cache")
    assert (report.encoded, report.reused) == (latents, first.encoded - latents)


def test_pictures_that_examples_share_are_kept_once(pipeline, samples, tmp_path) -> None:
    sample = samples[0]
    groups = sample_groups([sample], {f"{kind}_auto": (1.0,) for kind in ("matting", "removal")}, area=1536, grid=16)
    build_cache(pipeline, groups, tmp_path / "cache", draws=8)
    assert len([name for name in _names(tmp_path / "cache") if name.startswith("picture-")]) == 3


def test_synthetic_scenes_are_drawn_by_weight(pipeline, tmp_path) -> None:
    corpus = Corpus(make_corpus(tmp_path / "c"), "train")
    groups = corpus_groups(corpus, {"text_to_image": (3.0,), "removal_auto": (1.0,)}, size=32)
    report = build_cache(pipeline, groups, tmp_path / "cache", draws=8)
    assert report.rows == 8
    counts = {(g.num_inputs, g.num_targets): len(g.items or ()) for g in Cache(tmp_path / "cache").groups}
    assert counts == {(0, 1): 6, (1, 1): 2}


@pytest.mark.parametrize("kept", ["shards", "nothing"])
def test_an_unfinished_cache_is_refused_and_then_finished(pipeline, samples, tmp_path, monkeypatch, kept) -> None:
    monkeypatch.setattr(store, "SHARD_BYTES", 1 if kept == "shards" else 1 << 30)
    embed = PromptEncoder.embed
    calls: list[int] = []

    def dies(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(*args)

    monkeypatch.setattr(PromptEncoder, "embed", dies)
    with pytest.raises(KeyboardInterrupt):
        build_cache(pipeline, groups_of(samples), tmp_path / "cache")
    with pytest.raises(InputError, match="no finished cache"):
        Cache(tmp_path / "cache")
    before = len(_names(tmp_path / "cache"))
    assert (before > 0) == (kept == "shards")
    report = build_cache(pipeline, groups_of(samples), tmp_path / "cache")
    assert report.reused == before
    assert len(Cache(tmp_path / "cache").groups) == 3


def test_a_damaged_file_is_named(pipeline, samples, tmp_path) -> None:
    build_cache(pipeline, groups_of(samples), tmp_path / "cache")
    shard = next((tmp_path / "cache").glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:100])
    cache = Cache(tmp_path / "cache")
    with pytest.raises(InputError, match="shard-00000.safetensors: damaged"):
        cache.collate(draw_batch(cache.groups, seed=0, step=0, batch_size=1), [False])
    shard.unlink()
    assert build_cache(pipeline, groups_of(samples), tmp_path / "cache").reused == 0


def test_nothing_to_do_is_refused(pipeline, samples, tmp_path) -> None:
    with pytest.raises(InputError, match="at least one draw"):
        build_cache(pipeline, groups_of(samples), tmp_path / "cache", draws=0)
    with pytest.raises(InputError, match="no finished cache"):
        Cache(tmp_path / "cache")


def _names(folder: Path) -> list[str]:
    """Names of all tensors on disk."""
    return [name for file in folder.glob("shard-*.safetensors") for name in sorted(safe_open(file, "pt").keys())]
