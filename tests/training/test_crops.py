"""What the VAE is trained on: fixed by seed and step, from a corpus or a manifest, whoever takes which share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from corpus import make_corpus
from layered import write_sample
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.training.crops import draw_batch, draw_crops, held_out_pictures, pictures_of, recolour
from omnialpha.training.recipes import nano_vae, override, paper_vae

CONFIG = override(nano_vae(), {"batch_size": "4", "crop": "16"})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return Corpus(make_corpus(tmp_path_factory.mktemp("corpora") / "c"), "train")


def test_a_batch_is_fixed_by_seed_and_step(corpus) -> None:
    first, again = (draw_batch(corpus, CONFIG, 3, z_dim=16) for _ in range(2))
    assert [tuple(part.shape) for part in first] == [(4, 4, 16, 16), (4, 16, 2, 2), (4, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        draw_batch(corpus, CONFIG, 4, z_dim=16),
        draw_batch(corpus, override(CONFIG, {"seed": "1"}), 3, z_dim=16),
    ):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_processes_and_micro_batches_share_the_batch_of_one(corpus) -> None:
    batch = draw_batch(corpus, CONFIG, 0, z_dim=16)
    parts = []
    for rank in range(2):
        process = SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cpu"))
        parts += batch.parts(process, 1)
    assert len(parts) == 4
    for values, pieces in zip(batch, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), values)


def test_a_manifest_without_backgrounds_serves_as_well(tmp_path) -> None:
    samples = [write_sample(tmp_path, name, (40, 32), foregrounds=2) for name in "ab"]
    bare = [
        type(sample)(id=sample.id, foregrounds=sample.foregrounds, composite=sample.composite) for sample in samples
    ]
    config = override(paper_vae(), {"batch_size": "12", "crop": "32"})
    crops = draw_crops(bare, config, 0)
    assert crops.shape == (12, 4, 32, 32)
    assert crops.min() >= -1
    assert crops.max() <= 1
    opaque = (crops[:, 3] == 1).flatten(1).all(1)
    assert 0 < opaque.sum() < 12  # composites among cut-outs
    assert held_out_pictures(bare, config).shape == (2, 4, 32, 32)


def test_masks_and_backgrounds_come_now_and_then(corpus) -> None:
    rng = np.random.default_rng(0)
    counts = [len(pictures_of(draw_scene(corpus, rng, 16), rng)) for _ in range(40)]
    assert set(counts) == {3, 5}
    assert 0.1 < counts.count(5) / 40 < 0.5


def test_recolouring_keeps_alpha_and_hidden_black(corpus) -> None:
    crop = np.zeros((2, 2, 4), np.float32)
    crop[0] = [0.1, 0.2, 0.3, 1.0]
    seen = set()
    for seed in range(40):
        out = recolour(crop.copy(), np.random.default_rng(seed))
        assert np.array_equal(out[..., 3], crop[..., 3])
        assert not out[1].any()
        assert {round(min(v, 1 - v), 3) for v in out[0, 0, :3].tolist()} == {0.1, 0.2, 0.3}
        seen.add(tuple(out[0, 0, :3].round(3).tolist()))
    assert len(seen) > 10


def test_held_out_pictures_are_cut_outs_and_never_change(corpus) -> None:
    pictures = held_out_pictures(corpus, CONFIG)
    assert pictures.shape == (8, 4, 16, 16)
    assert torch.equal(pictures, held_out_pictures(corpus, override(CONFIG, {"seed": "5"})))
    assert (pictures[:, 3] < 1).flatten(1).any(1).all()
