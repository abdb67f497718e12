"""The adapter folder: opened by our own loader and by stock diffusers, with the same prediction; and its card."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from PIL import Image
from safetensors.torch import load_file

import omnialpha
import tiny
from corpus import make_corpus
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions
from stage2 import lora_config, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained folder with its base; the pipeline that training returned."""
    folder = tmp_path_factory.mktemp("run")
    tiny.pipeline().save_pretrained(folder / "base")
    config = lora_config(steps="2", validate_every="2", validate_samples="5", validate_steps="2", tracker="tensorboard")
    trained = train(make_corpus(folder / "corpora"), folder / "run", config)
    return folder, trained


def prediction(transformer) -> torch.Tensor:
    torch.manual_seed(0)
    x, prompt = torch.randn(2, 8, 64), (torch.randn(2, 3, tiny.HIDDEN), None)
    shapes = layer_shapes((2, 2), 2, [], "paper")
    with torch.no_grad():
        return velocity(with_layer_positions(transformer), x, None, torch.tensor([0.3, 0.8]), prompt, shapes)


def test_our_loader_and_stock_diffusers_predict_what_training_did(run) -> None:
    folder, trained = run
    adapter = folder / "run" / "adapter"
    expected = prediction(trained.transformer)
    assert (expected - prediction(tiny.transformer())).abs().max() > 1e-3  # it has learnt something
    ours = omnialpha.load(folder / "base", adapter=adapter)
    torch.testing.assert_close(prediction(ours.transformer), expected)
    assert ours.profile == tiny.PROFILE

    stock = QwenImageEditPlusPipeline(
        scheduler=tiny.scheduler(), vae=tiny.rgb_vae(), text_encoder=tiny.text_encoder(), tokenizer=tiny.tokenizer(),
        processor=None, transformer=tiny.transformer(),
    )  # fmt: skip
    stock.load_lora_weights(adapter / "lora")
    torch.testing.assert_close(prediction(stock.transformer), expected)

    transformer = tiny.transformer()
    transformer.load_lora_adapter(
        load_file(adapter / "lora" / "pytorch_lora_weights.safetensors"), prefix="transformer"
    )
    torch.testing.assert_close(prediction(transformer), expected)


def test_the_adapter_works_on_pictures_at_once(run) -> None:
    folder, _ = run
    pipe = omnialpha.load(folder / "base", adapter=folder / "run" / "adapter")
    pipe.set_progress_bar_config(disable=True)
    stack = pipe(task="decomposition_auto", images=[tiny.picture()], num_inference_steps=2, seed=0).stacks[0]
    assert [layer.image.size for layer in stack] == [(48, 32)] * 2


def test_folder_card_and_log_tell_how_it_was_made(run) -> None:
    folder, _ = run
    adapter = folder / "run" / "adapter"
    config = json.loads((adapter / "config.json").read_text())
    assert config == json.loads((folder / "run" / "config.json").read_text())
    assert config["learning_rate"] == 0.01
    card = (adapter / "README.md").read_text()
    assert 'omnialpha.load("tiny", adapter="run/adapter")' in card
    assert "| lora_rank | 2 |" in card
    records = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    losses = [record for record in records if "loss" in record]
    assert [record["step"] for record in losses] == [1, 2]
    assert all(any(name.startswith("loss/") for name in record) for record in losses)
    assert losses[-1]["samples"] == 8
    scores = next(record for record in records if "validation/matting_mad" in record)
    assert f"validation/matting_mad {scores['validation/matting_mad']:.4g}" in card
    assert {"validation/removal_psnr", "validation/decomposition_mad"} <= set(scores)
    assert list((folder / "run" / "tensorboard").glob("events*"))
    page = np.asarray(Image.open(folder / "run" / "validation" / "step-00000002.png"))
    assert page.shape[0] == 5 * (2 * 32 + 4)  # five examples, over black and over white
    assert page.shape[1] == 5 * (32 + 4)  # decomposition: one input, two targets, two predictions
