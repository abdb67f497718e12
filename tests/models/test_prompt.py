"""VLM conditioning: against the stock processors, and the promises that the pipeline relies on."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

import tiny
from omnialpha.errors import InputError
from omnialpha.models.profile import RELEASED, Profile
from omnialpha.models.prompt import PromptEncoder, grid_size, over_white, repeat_embeddings


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return make_encoder(tiny.PROFILE)


def make_encoder(profile: Profile) -> PromptEncoder:
    processor = Qwen2VLImageProcessorPil(patch_size=16)
    return PromptEncoder(tiny.text_encoder(), tiny.tokenizer(), processor, profile)


def rgb(seed: int, height: int = 64, width: int = 64) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (3, height, width))
    return torch.from_numpy(values).float() / 255


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (50, 83), (16, 200)])
def test_pixel_values_equal_those_of_the_stock_image_processor(encoder: PromptEncoder, size: tuple[int, int]) -> None:
    image = rgb(0, *size)
    width, height = grid_size(size[1], size[0], grid=16)
    picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    expected = encoder.image_processor(images=[picture], return_tensors="pt")
    received = encoder._pixels([image], torch.device("cpu"))
    assert received.grid_thw.tolist() == expected["image_grid_thw"].tolist()
    torch.testing.assert_close(received.patches, expected["pixel_values"], atol=1e-6, rtol=0)


def test_hidden_states_equal_those_of_the_stock_model(encoder: PromptEncoder) -> None:
    """Reference: the stock forward with its own position ids, on hand-expanded placeholder tokens."""
    images = [rgb(0), rgb(1, 64, 96)]
    profile, tokenizer = encoder.profile, encoder.tokenizer
    counts = [2 * 2, 2 * 3]  # 32 pixels a token
    announced = "".join(
        f"Picture {k + 1}: <|vision_start|>{'<|image_pad|>' * count}<|vision_end|>" for k, count in enumerate(counts)
    )
    ids = tokenizer(profile.prompt_template.format(announced + "cut it out"), return_tensors="pt")["input_ids"]
    pixels = encoder._pixels(images, torch.device("cpu"))
    with torch.no_grad():
        expected = encoder.text_encoder(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == encoder.text_encoder.config.image_token_id).int(),
            pixel_values=pixels.patches,
            image_grid_thw=pixels.grid_thw,
            output_hidden_states=True,
        ).hidden_states[-1]
        received, mask = encoder.embed(["cut it out"], [images])
    assert mask is None
    prefix = len(tokenizer("<|im_start|>user\n")["input_ids"])
    torch.testing.assert_close(received, expected[:, prefix:], atol=1e-5, rtol=0)


def test_prefix_length_comes_from_the_tokenizer() -> None:
    tokenizer = tiny.tokenizer()
    for profile in (tiny.PROFILE, RELEASED):
        prefix = profile.prompt_template.partition("{}")[0]
        assert make_encoder(profile).prefix_length == len(tokenizer.tokenize(prefix))
    assert make_encoder(tiny.PROFILE).prefix_length < make_encoder(RELEASED).prefix_length


def test_batch_of_mixed_lengths_equals_single_calls(encoder: PromptEncoder) -> None:
    prompts = ["short", "a considerably longer prompt", ""]
    images = [[rgb(0)], [rgb(1, 32, 64), rgb(2)], []]
    with torch.no_grad():
        embeds, mask = encoder.embed(prompts, images)
        assert mask is not None
        for k in range(3):
            single, nothing_padded = encoder.embed([prompts[k]], [images[k]])
            assert nothing_padded is None
            length = int(mask[k].sum())
            assert mask[k, :length].all()
            torch.testing.assert_close(embeds[k, :length], single[0], atol=1e-5, rtol=0)


def test_vision_tower_runs_once_for_positive_and_negative_prompts(encoder: PromptEncoder) -> None:
    calls: list[object] = []
    hook = encoder.text_encoder.model.visual.register_forward_hook(lambda *args: calls.append(args))
    images = [[rgb(0)], [rgb(1)]]
    with torch.no_grad():
        (positive, _), (negative, _) = encoder.embed_each([["a cat", "a dog"], ["", ""]], images)
        assert len(calls) == 1
        expected, _ = encoder.embed(["", ""], images)
    hook.remove()
    torch.testing.assert_close(negative, expected)
    assert positive.shape[1] > negative.shape[1]


def test_gradients_reach_language_model_and_vision_tower(encoder: PromptEncoder) -> None:
    embeds, _ = encoder.embed(["cut it out"], [[rgb(0)]])
    embeds.square().mean().backward()
    for module in (encoder.text_encoder.model.language_model, encoder.text_encoder.model.visual):
        gradients = [parameter.grad for parameter in module.parameters()]
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    encoder.text_encoder.zero_grad()


def test_released_profile_squeezes_pictures_into_the_transposed_shape() -> None:
    """A 160×128 picture arrives as 128×160: reference facts, §2."""
    transposed, upright = make_encoder(RELEASED), make_encoder(Profile(name="x"))
    image = rgb(0, 128, 160)
    assert tuple(transposed._vlm_picture(image).shape) == (3, 160, 128)
    assert tuple(upright._vlm_picture(image).shape) == (3, 128, 160)


def test_vlm_area_limits_only_what_the_vlm_sees() -> None:
    encoder = make_encoder(Profile(name="x", grid=16, vlm_area=64 * 64))
    assert tuple(encoder._vlm_picture(rgb(0, 256, 256)).shape) == (3, 64, 64)
    assert tuple(encoder._vlm_picture(rgb(0, 64, 64)).shape) == (3, 64, 64)


def test_placeholder_in_a_prompt_is_refused(encoder: PromptEncoder) -> None:
    with pytest.raises(InputError, match="placeholder"):
        encoder.embed(["see <|image_pad|>"], [[rgb(0)]])


def test_number_of_prompts_and_picture_lists_must_agree(encoder: PromptEncoder) -> None:
    with pytest.raises(InputError, match="received 1 for 2"):
        encoder.embed(["a", "b"], [[rgb(0)]])


def test_over_white() -> None:
    half_red = torch.tensor([1.0, 0.0, 0.0, 0.5]).view(4, 1, 1)
    assert over_white(half_red).flatten().tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), (32, 32)), ((250, 130), (256, 128)), ((128, 192), (128, 192)), ((47, 49), (32, 64))]
)
def test_grid_size_rounds_to_the_nearest_multiple(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert grid_size(*size, grid=32) == expected


def test_torchvision_is_not_used() -> None:
    assert "torchvision" not in sys.modules


# --- nothing is read twice ---


def test_each_picture_is_seen_once_wherever_it_stands(encoder: PromptEncoder) -> None:
    """Reference: every prompt alone, with copies of its pictures."""
    first, second = rgb(0), rgb(1, 32, 64)
    images = [[first], [second, first], [first, first]]
    prompts = [["a", "b", "c"], [""] * 3]
    grids: list[list[list[int]]] = []
    hook = encoder.text_encoder.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: grids.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    with torch.no_grad():
        together = encoder.embed_each(prompts, images)
        hook.remove()
        assert grids == [[[1, 4, 4], [1, 4, 6]]]
        for words, (embeds, mask) in zip(prompts, together, strict=True):
            for b in range(3):
                alone, _ = encoder.embed([words[b]], [[image.clone() for image in images[b]]])
                length = embeds.shape[1] if mask is None else int(mask[b].sum())
                torch.testing.assert_close(embeds[b, :length], alone[0], atol=1e-5, rtol=0)


def test_equal_prompts_with_the_same_pictures_are_read_once(encoder: PromptEncoder) -> None:
    image = rgb(0)
    rows: list[int] = []
    hook = encoder.text_encoder.model.language_model.register_forward_hook(
        lambda module, args, output: rows.append(len(output.last_hidden_state))
    )
    with torch.no_grad():
        (positive, _), (negative, _) = encoder.embed_each([["a"] * 3, [""] * 3], [[image]] * 3)
    hook.remove()
    assert rows == [2]
    assert torch.equal(positive, positive[:1].expand_as(positive))
    assert torch.equal(negative, negative[:1].expand_as(negative))
    assert positive.shape[1] > negative.shape[1]


def test_repeated_embeddings_put_the_samples_of_a_prompt_next_to_each_other() -> None:
    hidden, mask = torch.arange(2.0).view(2, 1, 1), torch.tensor([[True], [False]])
    device = torch.device("cpu")
    repeated, repeated_mask = repeat_embeddings((hidden, mask), 6, device)
    assert repeated.flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert repeated_mask is not None
    assert repeated_mask.flatten().tolist() == [True] * 3 + [False] * 3
    with pytest.raises(InputError, match="batch of 3, received 2"):
        repeat_embeddings((hidden, None), 3, device)
