"""Batches for the transformer: the same latents and prompts as the models give, in the checkpoint's order."""

import dataclasses

import numpy as np
import pytest
import torch

import tiny
from layered import write_sample
from omnialpha.data.groups import sample_groups
from omnialpha.data.loader import draw_batch
from omnialpha.models.latents import normalise
from omnialpha.models.profile import RELEASED
from omnialpha.models.prompt import over_white
from omnialpha.training.encoding import as_tensor, encode, pad_prompts


@pytest.fixture(scope="module")
def pipeline():
    return tiny.pipeline()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    samples = [write_sample(folder, name, size=(48, 32), foregrounds=2) for name in ("a", "bcd", "e")]
    groups = sample_groups(samples, {"decomposition_auto": (1.0,)}, area=48 * 32, grid=16)
    return draw_batch(groups, seed=0, step=0, batch_size=3)


def test_latents_and_prompts_are_those_of_the_models(pipeline, examples) -> None:
    encoded = encode(pipeline, examples, [False, True, False])
    assert encoded.inputs_BLCHW is not None
    assert encoded.inputs_BLCHW.shape == (3, 1, 16, 4, 6)
    assert encoded.targets_BLCHW.shape == (3, 3, 16, 4, 6)
    assert encoded.tasks == ("decomposition_auto",) * 3
    # One picture through diffusers' own encode, at the end of a batch and of its row.
    background = as_tensor(examples[2].targets[2]).mul(2).sub(1).unsqueeze(2)
    with torch.no_grad():
        alone = normalise(pipeline.vae.encode(background).latent_dist.mode()[:, :, 0], pipeline.vae)
        image = over_white(as_tensor(*examples[1].inputs))
        unprompted, _ = pipeline.prompt_encoder.embed([""], [list(image)])
    torch.testing.assert_close(encoded.targets_BLCHW[2, 2], alone[0], atol=1e-4, rtol=1e-4)
    hidden, mask = encoded.prompt
    assert mask is not None
    torch.testing.assert_close(hidden[1][mask[1]], unprompted[0], atol=1e-4, rtol=1e-4)


def test_released_weights_get_their_targets_back_to_front(pipeline, examples, monkeypatch) -> None:
    paper = encode(pipeline, examples, [True] * 3)
    released = dataclasses.replace(RELEASED, prompt_template=pipeline.profile.prompt_template)
    monkeypatch.setattr(pipeline, "profile", released)
    torch.testing.assert_close(encode(pipeline, examples, [True] * 3).targets_BLCHW, paper.targets_BLCHW.flip(1))


def test_padding_counts_the_tokens_that_only_fill_up(pipeline, examples) -> None:
    encoded = encode(pipeline, examples, [False, True, True])
    hidden, mask = encoded.prompt
    assert mask is not None
    length, short = hidden.shape[1], int(mask[1].sum())
    pictures = 4 * (48 // 16) * (32 // 16)
    assert encoded.padding == pytest.approx(2 * (length - short) / (3 * (pictures + length)))
    assert encode(pipeline, examples, [True] * 3).padding == 0


def test_padded_prompts_keep_their_rows() -> None:
    rows = [torch.randn(length, 3) for length in (2, 5, 1)]
    hidden, mask = pad_prompts(rows)
    assert mask is not None
    for row, padded, real in zip(rows, hidden, mask, strict=True):
        torch.testing.assert_close(padded[real], row)
    assert pad_prompts(rows[:1])[1] is None


def test_another_dtype_leaves_the_mask_alone(pipeline, examples) -> None:
    moved = encode(pipeline, examples, [False, True, False]).to("cpu", torch.bfloat16)
    assert moved.targets_BLCHW.dtype == moved.prompt[0].dtype == torch.bfloat16
    assert moved.prompt[1] is not None
    assert moved.prompt[1].dtype == torch.bool
    assert np.isfinite(moved.targets_BLCHW.float().numpy()).all()
