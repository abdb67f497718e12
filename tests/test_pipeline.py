"""The pipeline's contract on tiny random weights: both ways to call it, every option, every output type."""

from __future__ import annotations

import logging
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny
from omnialpha.errors import CheckpointError, InputError
from omnialpha.imaging.layers import LayerStack
from omnialpha.models.lora import save_lora
from omnialpha.models.profile import Profile
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import TASKS, Task

SIZE = (48, 32)


@pytest.fixture(scope="module")
def pipe() -> OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture(scope="module")
def released() -> OmniAlphaPipeline:
    """The same weights, told that they want targets in the released order."""
    return tiny.pipeline(with_profile(layer_order="released"))


def with_profile(**changes: Any) -> Profile:
    return Profile.from_dict(tiny.PROFILE.to_dict() | changes)


def raw(pipe: OmniAlphaPipeline, **options: Any) -> np.ndarray:
    defaults: dict[str, Any] = {"prompt": "x", "images": [tiny.picture()], "seed": 0, "output_type": "np"}
    return pipe(**defaults | options).images


def inputs_of(task: Task) -> list[Image.Image]:
    guides = ("alpha", "trimap", "precise_mask", "rough_mask")
    return [tiny.mask() if slot in guides else tiny.picture(k) for k, slot in enumerate(task.inputs)]


# --- tasks ---


@pytest.mark.parametrize("name", TASKS)
def test_every_task_gives_a_stack_of_its_layers_at_the_size_of_the_input(pipe: OmniAlphaPipeline, name: str) -> None:
    task = TASKS[name]
    out = pipe(task=name, images=inputs_of(task), text="a thing" if task.text else None, seed=3)
    (stack,) = out.stacks
    assert isinstance(stack, LayerStack)
    assert tuple(layer.name for layer in stack) == task.layer_names(len(task.targets))[::-1]
    assert stack.size == (SIZE if task.inputs else (64, 64))
    assert [layer.image for layer in stack] == out.images[0]
    assert stack.metadata is not None
    assert (stack.metadata["task"], stack.metadata["seed"]) == (name, 3)


@pytest.mark.parametrize(("order", "background_first"), [("paper", False), ("released", True)])
def test_stacks_run_back_to_front_whatever_the_order_of_the_weights(order: str, background_first: bool) -> None:
    """Reference: the same call without task, whose images come in the model's own order."""
    pipe = tiny.pipeline(with_profile(layer_order=order))
    out = pipe(task="decomposition_auto", images=[tiny.picture()], num_targets=3, seed=0)
    in_model_order = pipe(
        prompt=TASKS["decomposition_auto"].prompt(), images=[tiny.picture()], num_targets=3, seed=0
    ).images[0]
    back_to_front = in_model_order if background_first else in_model_order[::-1]
    assert out.images[0] == back_to_front
    assert [layer.name for layer in out.stacks[0]] == ["background", "foreground 2", "foreground 1"]
    assert [layer.image for layer in out.stacks[0]] == back_to_front


def test_order_of_the_layers_reaches_the_model(pipe: OmniAlphaPipeline, released: OmniAlphaPipeline) -> None:
    assert np.array_equal(raw(pipe), raw(released))
    assert not np.allclose(raw(pipe, num_targets=2), raw(released, num_targets=2), atol=1e-3)


def test_a_profile_may_set_wording_steps_and_guidance_of_a_task() -> None:
    profile = with_profile(
        instructions={"matting_text": "only {text}"}, task_steps={"matting_text": 3}, task_cfg={"matting_text": 2.0}
    )
    pipe = tiny.pipeline(profile)
    stack = pipe(task="matting_text", text="the kite", images=[tiny.picture()]).stacks[0]
    assert stack.metadata["prompt"] == "only the kite"
    assert (stack.metadata["num_inference_steps"], stack.metadata["true_cfg_scale"]) == (3, 2.0)


def test_guides_become_opaque_grey(pipe: OmniAlphaPipeline) -> None:
    """A mask, the same as RGBA, and a cut-out with that alpha all say the same."""
    cut_out = tiny.picture(5)
    cut_out.putalpha(tiny.mask())
    results = [
        pipe(task="matting_precise_mask", images=[tiny.picture(), guide], seed=0).images[0][0]
        for guide in (tiny.mask(), tiny.mask().convert("RGBA"), cut_out)
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "matting_atuo", "images": [tiny.picture()]}, 'did you mean "matting_auto"'),
        ({"task": "matting_auto"}, "takes 1 image"),
        ({"task": "matting_text", "images": [tiny.picture()]}, "needs a text"),
        ({"task": "matting_auto", "images": [tiny.picture()], "text": "x"}, "takes no text"),
        ({"task": "matting_auto", "images": [tiny.picture()], "prompt": "x"}, "writes its own prompt"),
        ({"task": "matting_auto", "images": [tiny.picture()], "num_targets": 2}, "exactly 1 layer"),
        ({"task": "matting_trimap", "images": [tiny.picture(), tiny.mask((16, 16))]}, "trimap is 16×16.*48×32"),
        ({"task": "matting_precise_mask", "images": [tiny.picture(), Image.new("L", SIZE)]}, "empty"),
        ({"task": "matting_precise_mask", "images": [tiny.picture(), Image.new("L", SIZE, 255)]}, "full"),
        ({"task": "matting_auto", "images": [42]}, "received int"),
        ({}, "one of task, prompt and prompt_embeds"),
        ({"prompt": "x", "text": "y"}, "text belongs to a task"),
        ({"prompt": "x", "num_targets": 0}, "at least 1, received 0"),
        ({"prompt": "x", "num_inference_steps": 0}, "at least 1, received 0"),
        ({"prompt": "x", "num_inference_steps": 1}, "2 or more"),
        ({"prompt": "x", "height": 0}, "at least 1 pixel"),
        ({"prompt": "x", "output_type": "pli"}, 'did you mean "pil"'),
        ({"prompt": "x", "seed": 1, "generator": torch.Generator()}, "both seed and generator"),
        ({"prompt": "x", "generator": [torch.Generator()] * 2}, "one generator for each of 1"),
        ({"prompt": "x", "latents": torch.zeros(1, 3, 64)}, r"\(1, 16, 64\), received \(1, 3, 64\)"),
        ({"prompt": "x", "callback_on_step_end_tensor_inputs": ["noise"]}, "noise"),
        ({"prompt": ["a", "b"], "images": [[tiny.picture()]] * 3}, "2 texts, 3 lists of images"),
        ({"prompt": []}, "received 0 texts"),
        ({"prompt": "x", "images": [[tiny.picture()], tiny.picture()]}, "mixes pictures and lists"),
        ({"prompt": "x", "images": [[tiny.picture()], [tiny.picture(size=(32, 32))]]}, "share number and sizes"),
        ({"prompt": "x", "images": [[tiny.picture()], []]}, "share number and sizes"),
    ],
)
def test_wrong_calls_are_refused(pipe: OmniAlphaPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pipe(**options)
    assert "\n" not in str(caught.value)


# --- sizes ---


@pytest.mark.parametrize("size", [(48, 32), (50, 30), (17, 61), (130, 70)])
def test_results_have_the_exact_size_of_the_input(
    pipe: OmniAlphaPipeline, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "omnialpha"):
        images = pipe(prompt="x", images=[tiny.picture(size=size)]).images
    assert images[0][0].size == size
    assert ("scaled" in caplog.text) == (size != (48, 32))


def test_a_size_in_the_call_is_that_of_the_results(pipe: OmniAlphaPipeline) -> None:
    task: dict[str, Any] = {"task": "matting_auto", "images": [tiny.picture()]}
    assert pipe(**task, height=50, width=70).images[0][0].size == (70, 50)
    assert pipe(**task, height=64).images[0][0].size == (96, 64)
    assert pipe(**task, width=24).images[0][0].size == (24, 16)
    assert pipe(prompt="x", height=33, width=20).images[0][0].size == (20, 33)


def working_tokens(pipe: OmniAlphaPipeline, **options: Any) -> int:
    return pipe(prompt="x", output_type="latent", **options).images.shape[1]


def test_profile_limits_the_work_unless_the_call_says_a_size() -> None:
    large = tiny.picture(size=(256, 256))
    per_picture = tiny.pipeline(with_profile(max_area=64 * 64))
    assert working_tokens(per_picture, images=[large]) == 4 * 4
    assert working_tokens(per_picture, images=[large], height=128, width=128) == 8 * 8
    in_all = tiny.pipeline(with_profile(max_area=None, max_total_area=4 * 64 * 64))
    assert working_tokens(in_all, images=[large] * 3) == 4 * 4
    unlimited = tiny.pipeline(with_profile(max_area=None))
    assert working_tokens(unlimited, images=[large]) == 16 * 16


def test_inputs_of_other_sizes_keep_them_without_task(pipe: OmniAlphaPipeline) -> None:
    images = pipe(prompt="x", images=[tiny.picture(), tiny.picture(1, (16, 64))]).images
    assert images[0][0].size == SIZE


def test_colours_of_transparent_pixels_do_not_matter_where_the_profile_says_so() -> None:
    transparent = tiny.picture(opaque=False)
    alpha = np.array(tiny.mask())
    transparent.putalpha(Image.fromarray(alpha))
    recoloured = np.array(transparent)
    recoloured[alpha == 0, :3] = 77
    pictures = (transparent, Image.fromarray(recoloured))
    for clean in (True, False):
        pipe = tiny.pipeline(with_profile(clean_transparent=clean))
        first, second = (raw(pipe, images=[picture]) for picture in pictures)
        assert np.array_equal(first, second) == clean


# --- outputs ---


def test_output_types_agree(pipe: OmniAlphaPipeline) -> None:
    call: dict[str, Any] = {"prompt": "x", "images": [tiny.picture()], "num_targets": 2, "seed": 0}
    arrays, tensors = (pipe(**call, output_type=kind).images for kind in ("np", "pt"))
    assert arrays.shape == (1, 2, 32, 48, 4)
    assert arrays.dtype == np.float32
    assert tensors.shape == (1, 2, 4, 32, 48)
    assert np.array_equal(tensors.permute(0, 1, 3, 4, 2).numpy(), arrays)
    assert 0 <= arrays.min() < arrays.max() <= 1
    images = pipe(**call).images
    assert all(image.mode == "RGBA" for image in images[0])
    assert np.array_equal(np.stack([np.array(image) for image in images[0]]), np.rint(arrays[0] * 255))
    assert pipe(**call, output_type="latent").images.shape == (1, 2 * 2 * 3, 64)
    assert pipe(**call).stacks == []
    assert np.array_equal(pipe(**call, output_type="np", return_dict=False)[0], arrays)


@pytest.mark.parametrize("kind", ["np", "pt", "latent"])
def test_tasks_with_other_output_types(pipe: OmniAlphaPipeline, kind: str) -> None:
    out = pipe(task="decomposition_auto", images=[tiny.picture()], seed=0, output_type=kind)
    assert len(out.images) == 1
    assert len(out.stacks) == (kind != "latent")


def test_pictures_in_every_form_mean_the_same(pipe: OmniAlphaPipeline, tmp_path: Any) -> None:
    image = tiny.picture(opaque=False)
    image.save(tmp_path / "x.png")
    array = np.array(image)
    forms = [
        image,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        array,
        array.astype(np.float32) / 255,
        torch.from_numpy(array).permute(2, 0, 1).float() / 255,
    ]
    expected = raw(pipe, images=[image])
    for form in forms:
        assert np.array_equal(raw(pipe, images=[form]), expected)
    assert np.array_equal(raw(pipe, images=image), expected)


# --- randomness ---


def test_seed_generator_and_latents(pipe: OmniAlphaPipeline) -> None:
    assert np.array_equal(raw(pipe, seed=5), raw(pipe, seed=5))
    assert not np.allclose(raw(pipe, seed=5), raw(pipe, seed=6), atol=1e-3)
    generator = torch.Generator().manual_seed(5)
    assert np.array_equal(raw(pipe, seed=None, generator=generator), raw(pipe, seed=5))
    noise = torch.randn(1, 6, 64, generator=generator)
    assert np.array_equal(raw(pipe, latents=noise, seed=None), raw(pipe, latents=noise, seed=9))


def test_entry_of_a_batch_equals_the_single_call(pipe: OmniAlphaPipeline) -> None:
    prompts, pictures = ["short", "a longer prompt"], [[tiny.picture(1)], [tiny.picture(2)]]
    batch = raw(pipe, prompt=prompts, images=pictures, seed=7, true_cfg_scale=2.0)
    assert batch.shape[0] == 2
    for k in range(2):
        single = raw(pipe, prompt=prompts[k], images=pictures[k], seed=7 + k, true_cfg_scale=2.0)
        assert np.abs(batch[k] - single[0]).max() < 1e-4


def test_batches_share_what_is_given_once(pipe: OmniAlphaPipeline) -> None:
    one_picture = raw(pipe, prompt=["a", "b"])
    assert np.array_equal(one_picture, raw(pipe, prompt=["a", "b"], images=[[tiny.picture()]] * 2))
    stacks = pipe(task="matting_auto", images=[[tiny.picture(1)], [tiny.picture(2)]], seed=0).stacks
    assert [stack.metadata["seed"] for stack in stacks] == [0, 1]
    texts = pipe(task="text_to_image", text=["a", "b"]).stacks
    assert [stack.metadata["text"] for stack in texts] == ["a", "b"]


def test_samples_of_a_prompt_equal_calls_of_their_own(pipe: OmniAlphaPipeline) -> None:
    prompts, pictures = ["short", "a longer prompt"], [[tiny.picture(1)], [tiny.picture(2)]]
    call: dict[str, Any] = {"true_cfg_scale": 2.0, "num_inference_steps": 2}
    samples = raw(pipe, prompt=prompts, images=pictures, seed=5, num_images_per_prompt=2, **call)
    assert samples.shape[0] == 4
    for k in range(4):
        single = raw(pipe, prompt=prompts[k // 2], images=pictures[k // 2], seed=5 + k, **call)
        np.testing.assert_allclose(samples[k], single[0], atol=1e-4)
    stacks = pipe(task="matting_auto", images=pictures, num_images_per_prompt=2, seed=5).stacks
    assert [stack.metadata["seed"] for stack in stacks] == [5, 6, 7, 8]
    with pytest.raises(InputError, match="num_images_per_prompt is at least 1, received 0"):
        raw(pipe, num_images_per_prompt=0)


def test_what_samples_share_is_encoded_once(pipe: OmniAlphaPipeline, tmp_path: Any) -> None:
    """Also where the caller brings equal pictures: objects, arrays, or one file twice."""
    picture = tiny.picture()
    picture.save(tmp_path / "x.png")
    equal = [[picture], [picture.copy()], [np.array(picture)], [tmp_path / "x.png"]]
    grids: list[int] = []
    frames: list[int] = []
    hook = pipe.text_encoder.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: grids.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    with mock.patch.object(pipe.vae, "encode", wraps=pipe.vae.encode) as encode:
        for options in ({"num_images_per_prompt": 3}, {"prompt": ["a", "b", "c"]}, {"images": equal}):
            raw(pipe, true_cfg_scale=2.0, num_targets=2, **options)
            frames.append(sum(len(call.args[0]) for call in encode.call_args_list))
            encode.reset_mock()
    hook.remove()
    assert grids == [1, 1, 1]
    assert frames == [1, 1, 1]


# --- guidance ---


def test_guidance_follows_its_formula() -> None:
    """Reference: one Euler step written out, with the velocities recovered from unguided runs."""
    pipe = tiny.pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift_terminal=None)
    noise = torch.randn(1, 6, 64, generator=torch.Generator().manual_seed(0))
    call: dict[str, Any] = {
        "images": [tiny.picture()],
        "latents": noise,
        "num_inference_steps": 1,
        "output_type": "latent",
    }
    toward, away = (noise - pipe(prompt=words, **call).images for words in ("a kite", ""))
    combined = away + 3.0 * (toward - away)
    guided = combined * toward.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True)
    received = noise - pipe(prompt="a kite", true_cfg_scale=3.0, **call).images
    torch.testing.assert_close(received, guided, atol=1e-4, rtol=0)
    assert (received - toward).abs().max() > 1e-3


def count_calls(module: torch.nn.Module, run: Any) -> int:
    calls: list[None] = []
    hook = module.register_forward_hook(lambda *_: calls.append(None))
    run()
    hook.remove()
    return len(calls)


def test_guidance_is_skipped_at_scale_one(pipe: OmniAlphaPipeline) -> None:
    def rows(**options: Any) -> list[int]:
        """Batch entries in each call of the transformer."""
        batches: list[int] = []
        hook = pipe.transformer.register_forward_hook(lambda _module, _args, output: batches.append(len(output[0])))
        raw(pipe, num_inference_steps=3, **options)
        hook.remove()
        return batches

    assert rows() == [1, 1, 1]
    assert rows(true_cfg_scale=1.5) == [2, 2, 2]
    assert rows(true_cfg_scale=1.5, guidance_interval=(0.4, 0.7)) == [1, 2, 1]
    assert count_calls(pipe.text_encoder, lambda: raw(pipe)) == 1


def test_vision_tower_runs_once_in_a_guided_call(pipe: OmniAlphaPipeline) -> None:
    tower = pipe.text_encoder.model.visual
    assert count_calls(tower, lambda: raw(pipe, true_cfg_scale=2.0, images=[tiny.picture(), tiny.picture(1)])) == 1


def test_negative_prompt_without_pictures_is_read_once_for_all_calls() -> None:
    pipe = tiny.pipeline()
    call: dict[str, Any] = {"images": None, "true_cfg_scale": 2.0, "negative_prompt": "blurry"}
    first = raw(pipe, **call)
    assert count_calls(pipe.text_encoder, lambda: raw(pipe, **call)) == 1
    assert np.array_equal(raw(pipe, **call), first)


def test_negative_prompt_matters(pipe: OmniAlphaPipeline) -> None:
    plain, against_blur = (raw(pipe, true_cfg_scale=4.0, negative_prompt=words) for words in ("", "blurry"))
    assert not np.allclose(plain, against_blur, atol=1e-4)


def test_prompt_embeds_replace_words(pipe: OmniAlphaPipeline) -> None:
    from omnialpha.models.pictures import to_tensor
    from omnialpha.models.prompt import over_white

    seen = [[over_white(to_tensor(tiny.picture()))]] * 2
    with torch.no_grad():
        (embeds, mask), (negative, _) = pipe.prompt_encoder.embed_each([["a", "longer"], ["", ""]], seen)
    expected = raw(pipe, prompt=["a", "longer"], true_cfg_scale=2.0)
    given: dict[str, Any] = {"prompt": None, "prompt_embeds": embeds, "prompt_embeds_mask": mask, "true_cfg_scale": 2.0}
    np.testing.assert_allclose(raw(pipe, **given), expected, atol=1e-5)
    np.testing.assert_allclose(raw(pipe, **given, negative_prompt_embeds=negative), expected, atol=1e-5)
    samples = raw(pipe, **given, negative_prompt_embeds=negative, num_images_per_prompt=2)
    np.testing.assert_allclose(samples[0], expected[0], atol=1e-5)


# --- diffusers' contract ---


def test_callback_sees_and_changes_tensors(pipe: OmniAlphaPipeline) -> None:
    steps = []

    def zero(
        _pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        steps.append((step, float(timestep), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    latents = raw(pipe, num_inference_steps=3, callback_on_step_end=zero, output_type="latent")
    assert [step for step, _, _ in steps] == [0, 1, 2]
    assert steps[0][1] == pytest.approx(1000)
    assert steps[0][2] == ["latents"]
    assert not latents.any()


def test_interrupt_stops_after_the_step(pipe: OmniAlphaPipeline) -> None:
    def stop(running: Any, step: int, *_: Any) -> None:
        running._interrupt = step == 1

    assert count_calls(pipe.transformer, lambda: raw(pipe, num_inference_steps=5, callback_on_step_end=stop)) == 2
    assert count_calls(pipe.transformer, lambda: raw(pipe, num_inference_steps=5)) == 5


def test_progress_bar(pipe: OmniAlphaPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.set_progress_bar_config(disable=False)
    raw(pipe, num_inference_steps=3)
    pipe.set_progress_bar_config(disable=True)
    assert "3/3" in capsys.readouterr().err


def test_offload_sequence_names_all_models(pipe: OmniAlphaPipeline) -> None:
    models = {name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert set(pipe.model_cpu_offload_seq.split("->")) == models


def test_every_model_is_entered_where_offloading_hooks_sit() -> None:
    """Offloading brings a model to the device when its forward (the VAE's encode, decode) is called, not its parts'."""
    pipe = tiny.pipeline()
    on_device: set[str] = set()

    class Bring(ModelHook):
        def __init__(self, name: str) -> None:
            self.name = name

        def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            on_device.clear()  # as with model offloading, one model at a time is there
            on_device.add(self.name)
            return args, kwargs

    def check(name: str) -> Any:
        def check(*_: Any) -> None:
            assert on_device == {name}

        return check

    for name in pipe.model_cpu_offload_seq.split("->"):
        model = getattr(pipe, name)
        add_hook_to_module(model, Bring(name))
        for part in model.modules():
            if part is not model:
                part.register_forward_pre_hook(check(name))
    # Hooked layers keep weights of their own, which are multiplied apart.
    np.testing.assert_allclose(raw(pipe, true_cfg_scale=2.0), raw(tiny.pipeline(), true_cfg_scale=2.0), atol=1e-5)


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offload(kind: str) -> None:
    pipe, device = tiny.pipeline(), torch.device("cpu")
    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    pipe.enable_group_offload(onload_device=device, offload_device=device, offload_type=kind, **blocks)
    # Offloaded layers keep weights of their own, which are multiplied apart.
    np.testing.assert_allclose(raw(pipe, true_cfg_scale=2.0), raw(tiny.pipeline(), true_cfg_scale=2.0), atol=1e-5)


def test_load_lora_weights_is_strict(tmp_path: Any) -> None:
    file = save_lora(tiny.with_lora(tiny.transformer()), tmp_path)
    pipe = tiny.pipeline()
    pipe.load_lora_weights(str(tmp_path), adapter_name="good")
    assert list(pipe.transformer.peft_config) == ["good"]
    save_file(load_file(file) | {"transformer.nowhere.lora_A.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(CheckpointError, match=r"transformer\.nowhere"):
        tiny.pipeline().load_lora_weights(str(tmp_path))


def test_adapter_scale_is_passed_on() -> None:
    pipe = tiny.pipeline()
    without = raw(pipe)
    tiny.with_lora(pipe.transformer)
    assert not np.allclose(raw(pipe), without, atol=1e-4)
    np.testing.assert_allclose(raw(pipe, attention_kwargs={"scale": 0.0}), without, atol=1e-5)


def test_no_gradients_are_kept(pipe: OmniAlphaPipeline) -> None:
    assert not pipe(prompt="x", output_type="latent").images.requires_grad
