"""Backends with models, on tiny random ones in the real layouts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLForConditionalGeneration

import tiny
from omnialpha.alphalayers import backends
from omnialpha.errors import CheckpointError
from triplets import triplet

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def qwen3_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of Qwen/Qwen3-VL-…-Instruct."""
    folder = tmp_path_factory.mktemp("qwen3")
    ids = {token: 256 + k for k, token in enumerate(tiny.SPECIAL_TOKENS)}
    text = {
        "vocab_size": 256 + len(ids),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    }
    vision: dict[str, Any] = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
    }
    vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    for weight in (w for w in model.parameters() if w.dim() > 1):
        torch.nn.init.normal_(weight, std=0.3)  # or nothing that it is shown would change its words
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=16).save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    written = json.loads(file.read_text()) | {"image_processor_type": "Qwen2VLImageProcessorFast"}
    file.write_text(json.dumps(written | {"processor_class": "Qwen3VLProcessor"}))
    return folder


def test_qwen3_vl_answers_in_this_process(qwen3_vl: Path, tmp_path: Path) -> None:
    captioner = backends.captioner(f"transformers:{qwen3_vl}?max_new_tokens=8&device=cpu", replies=tmp_path)
    sample = triplet(tmp_path / "a")
    caption = captioner.caption_foreground(sample)
    assert caption == captioner.caption_foreground(sample)
    assert 0 < len(caption) <= 8
    Image.new("RGBA", (48, 32), "navy").save(sample.foreground)
    assert captioner.caption_foreground(sample) != caption  # it looks at the picture
    drawing = backends.captioner(f"transformers:{qwen3_vl}?max_new_tokens=8&temperature=2", replies=tmp_path)
    assert drawing.settings != captioner.settings
    drawn = [drawing.caption_foreground(triplet(tmp_path / "b", seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    captioner = backends.captioner(f"transformers:{tmp_path}", replies=tmp_path)
    with pytest.raises(CheckpointError, match="cannot be loaded as a vision model"):
        captioner.caption_foreground(triplet(tmp_path / "a"))
    for role, act in (("editor", "edit"), ("remover", "remove")):
        (tmp_path / "model_index.json").write_text('{"_class_name": "QwenImagePipeline"}')
        backend = getattr(backends, role)(f"diffusers:{tmp_path}")
        with pytest.raises(CheckpointError, match="give a complete copy"):
            getattr(backend, act)(triplet(tmp_path / "a"))


def test_qwen_image_edit_makes_the_composite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as stock

    monkeypatch.setattr(stock, "VAE_IMAGE_SIZE", 64 * 64)  # else the picture is encoded at 1024²
    monkeypatch.setattr(stock, "CONDITION_IMAGE_SIZE", 64 * 64)
    line = f"diffusers:{tiny.write_base(tmp_path / 'base')}?steps=2&guidance=1&area=4096&device=cpu"
    editor = backends.editor(line)
    first = editor.edit(triplet(tmp_path / "a", (50, 34)))
    again = editor.edit(triplet(tmp_path / "a", (50, 34)))
    told = editor.edit(triplet(tmp_path / "a", (50, 34), instruction="Replace the background with a street."))
    assert (first.composite.mode, first.composite.size) == ("RGB", (50, 34))
    assert first.composite.tobytes() == again.composite.tobytes() != told.composite.tobytes()
    assert first.background is None
    assert first.foreground.size == (50, 34)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion for inpainting: nine channels go into its U-Net, as into that of ObjectClear."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: k for k, word in enumerate(words)}, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    blocks: dict[str, Any] = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    unet = UNet2DConditionModel(
        in_channels=9,
        sample_size=64,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **blocks,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        **blocks,
    )
    pipe = StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("inpainting")
    pipe.save_pretrained(folder)
    return folder


def test_an_inpainting_pipeline_makes_the_background(inpainting: Path, tmp_path: Path) -> None:
    remover = backends.remover(f"diffusers:{inpainting}?steps=2&area=2304&device=cpu")
    assert remover.settings["prompt"] == "remove the instance of object"
    sample = triplet(tmp_path, (50, 34))
    background = remover.remove(sample)
    assert (background.mode, background.size) == ("RGB", (50, 34))
    assert background.tobytes() == remover.remove(sample).tobytes()
    assert background.tobytes() != remover.remove(triplet(tmp_path, (50, 34), seed=8)).tobytes()


def test_omnialpha_itself_edits_and_removes(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny.pipeline().save_pretrained(folder)
    editor = backends.editor(f"omnialpha:{folder}?steps=2&device=cpu")
    remover = backends.remover(f"omnialpha:{folder}?steps=2&device=cpu")
    assert editor.settings["task"] == "foreground_to_composite"
    sample = triplet(tmp_path / "a")
    edited = editor.edit(sample)
    assert edited.composite.size == edited.foreground.size == (48, 32)
    told = editor.edit(triplet(tmp_path / "a", composite_caption="a red disk at night"))
    assert told.composite.tobytes() != edited.composite.tobytes()
    pipe = tiny.pipeline()
    mask = sample.read_foreground()[..., 3] > 0.95
    pictures = [Image.open(tmp_path / "a" / "composite.png"), Image.fromarray(mask)]
    direct = pipe(task="removal_precise_mask", images=pictures, seed=7, num_inference_steps=2)
    expected = np.asarray(direct.stacks[0][0].image.convert("RGB"), int)
    np.testing.assert_allclose(np.asarray(remover.remove(sample), int), expected, atol=1)


def test_opencv_fills_the_hole_from_its_surroundings(tmp_path: Path) -> None:
    sample = triplet(tmp_path, (64, 48))
    filled = backends.remover("opencv:telea").remove(sample)
    truth = np.asarray(Image.open(tmp_path / "background.png"), int)
    composite = np.asarray(Image.open(tmp_path / "composite.png"), int)
    seen = sample.read_foreground()[..., 3] > 0.05
    assert abs(np.asarray(filled, int) - truth)[seen].mean() < 0.4 * abs(composite - truth)[seen].mean()
    assert (np.asarray(filled)[~seen] == composite[~seen]).all()
    other = backends.remover("opencv:navier_stokes").remove(sample)
    assert other.tobytes() != filled.tobytes()
