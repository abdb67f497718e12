"""Shapes and operations of every stage of the 20B architecture, checked on meta tensors: nothing is computed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from flops import counted, transformer_flops
from model_20b import PROFILE, Components, Scale, meta_components
from torch import Tensor

from omnialpha.models.latents import pack
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions
from omnialpha.models.vae import decode_frame, encode_frame, single_frame

WORDS = 120  # tokens of the chat template and an instruction, beside the picture's
FORMULA_TOLERANCE = 0.01


@dataclass(frozen=True)
class Stage:
    """One stage of a call.

    Attributes:
        name: of the stage.
        inputs: shape that goes in.
        outputs: shape that comes out.
        tflop: operations of one call of it, 10¹².
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tflop: float


@torch.no_grad()
def check_shapes(scale: Scale, layouts: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Run every stage of calls with n inputs and m targets on meta tensors.

    Args:
        scale: architecture and size.
        layouts: (n, m) of each call, n at least 1, by name.

    Returns:
        For each layout its stages, and the operations of a whole call with guidance.

    Raises:
        AssertionError: a stage returns another shape than the next one takes, or the formula and torch's counter
            disagree by more than a percent.
    """
    parts = meta_components(scale)
    for module in (parts.transformer, parts.vae, parts.text_encoder):
        module.to(torch.bfloat16)
    parameters = {
        name: sum(weight.numel() for weight in getattr(parts, name).parameters())
        for name in ("transformer", "vae", "text_encoder")
    }
    found = {name: _layout(parts, scale, n, m) for name, (n, m) in layouts.items()}
    return {"parameters": parameters, "layouts": found}


def _layout(parts: Components, scale: Scale, n: int, m: int) -> dict[str, Any]:
    transformer, vae = with_layer_positions(parts.transformer), single_frame(parts.vae)
    rows = scale.side // 16
    embeds_BTD, stages = _vlm(parts, scale, n)

    x_BCHW = _meta(n, 4, scale.side, scale.side)
    stages.append(_stage("encode", x_BCHW, lambda x: encode_frame(vae, x)))
    z_dim = stages[-1].outputs[1] // 2  # mean and log-variance
    inputs_BSC = pack(_meta(1, n, z_dim, *stages[-1].outputs[2:]))
    targets_BSC = pack(_meta(1, m, z_dim, 2 * rows, 2 * rows))
    assert targets_BSC.shape[2] == transformer.config.in_channels, targets_BSC.shape

    shapes = layer_shapes((rows, rows), m, [(rows, rows)] * n, PROFILE.layer_order)
    sigma_B = torch.empty(1, device="meta")
    call = _stage(
        "denoise", targets_BSC, lambda x: velocity(transformer, x, inputs_BSC, sigma_B, (embeds_BTD, None), shapes)
    )
    assert call.outputs == tuple(targets_BSC.shape), call.outputs
    stages.append(call)
    tokens = {"image_tokens": (n + m) * rows**2, "text_tokens": embeds_BTD.shape[1]}
    formula = transformer_flops(transformer.config, **tokens) / 1e12
    whole = _stock_tflop(scale, torch.cat([targets_BSC, inputs_BSC], dim=1), embeds_BTD, n + m)
    assert abs(formula / whole - 1) < FORMULA_TOLERANCE, (formula, whole)
    assert call.tflop <= whole, (call.tflop, whole)

    stages.append(_stage("decode", _meta(m, z_dim, 2 * rows, 2 * rows), lambda z: decode_frame(vae, z)))
    assert stages[-1].outputs == (m, 4, scale.side, scale.side), stages[-1].outputs
    times = {"vision": 1, "encode": 1, "denoise": 2 * scale.steps, "words": 2, "decode": 1}
    return tokens | {
        "tflop_of_the_whole_transformer": round(formula, 6),
        "stages": [asdict(stage) for stage in stages],
        "steps": scale.steps,
        "tflop_of_a_guided_call": sum(times[stage.name] * stage.tflop for stage in stages),
    }


def _stock_tflop(scale: Scale, tokens_BSC: Tensor, embeds_BTD: Tensor, pictures: int) -> float:
    """Operations of one call of the stock transformer, which computes everything; ours leaves out what nobody reads."""
    transformer = meta_components(scale).transformer.to(torch.bfloat16)
    rows = scale.side // 16
    flops = counted(
        lambda: transformer(
            hidden_states=tokens_BSC,
            timestep=torch.empty(1, device="meta"),
            encoder_hidden_states=embeds_BTD,
            img_shapes=[[(1, rows, rows)] * pictures],
        )
    )
    return flops / 1e12


def _vlm(parts: Components, scale: Scale, n: int) -> tuple[Tensor, list[Stage]]:
    """Vision tower and language model; prompt embeddings (1, T, D) and both stages."""
    model, processor = parts.text_encoder.model, parts.image_processor
    patch, merge = processor.patch_size, processor.merge_size
    side = round(scale.side / (patch * merge)) * merge  # patches
    grid_thw = torch.tensor([[1, side, side]] * n)
    values = 3 * processor.temporal_patch_size * patch**2
    # The picture's sizes are read as numbers, so they are real; what is computed from them joins the rest on meta.
    rotary = model.visual.rotary_pos_emb
    hook = rotary.register_forward_pre_hook(lambda _, args: tuple(value.to("meta") for value in args))
    vision = _stage("vision", _meta(n * side**2, values), lambda x: model.visual(x, grid_thw=grid_thw).pooler_output)
    hook.remove()
    assert vision.outputs == (n * (side // merge) ** 2, model.language_model.config.hidden_size), vision.outputs
    T = WORDS + vision.outputs[0]
    positions_3BT = torch.arange(T, device="meta").expand(3, 1, T)
    words = _stage(
        "words",
        _meta(1, T, vision.outputs[1]),
        lambda x: model.language_model(inputs_embeds=x, position_ids=positions_3BT, use_cache=False).last_hidden_state,
    )
    return _meta(*words.outputs), [vision, words]


def _stage(name: str, x: Tensor, call: Any) -> Stage:
    """Run one stage under torch's counter."""
    results: list[Tensor] = []
    flops = counted(lambda: results.append(call(x)))
    return Stage(name, tuple(x.shape), tuple(results[0].shape), round(flops / 1e12, 6))


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")
