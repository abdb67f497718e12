"""What the pipeline returns: images in several forms and, for a task, layer stacks from back to front."""

from dataclasses import dataclass, field
from typing import Any

from diffusers.utils import BaseOutput
from torch import Tensor

from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.models.pictures import Size, to_image
from omnialpha.models.profile import Profile
from omnialpha.request import Request

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class OmniAlphaOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: "pil": for each batch entry a list of m "RGBA" images; "np": float32 (B, m, H, W, 4); "pt": float32
            (B, m, 4, H, W), both in [0, 1], straight alpha; "latent": packed (B, S, 64). Ordered as the model's
            targets; in task mode from back to front (except latents).
        stacks: in task mode one stack per batch entry, from back to front; empty without task and for latents.
    """

    images: Any  # a union of the four forms would burden every caller, who knows what was asked for
    stacks: list[LayerStack] = field(default_factory=list)


def assemble(
    layers_BLCHW: Tensor, request: Request, profile: Profile, output_type: str, seed: int | None, work_size: Size
) -> OmniAlphaOutput:
    """The decoded layers in the form asked for.

    Args:
        layers_BLCHW: (B, m, 4, H, W) in [0, 1], in the order of the model's targets.
        request: the call.
        profile: tells that order.
        output_type: "pil", "np" or "pt".
        seed: of the call, for the stacks' provenance.
        work_size: at which the model worked, likewise.
    """
    # Table 1 and the paper list foregrounds front to back and the background last; released weights do the reverse.
    if request.task is not None and profile.layer_order == "paper":
        layers_BLCHW = layers_BLCHW.flip(1)
    images = [[to_image(layer) for layer in entry] for entry in layers_BLCHW]
    stacks = []
    if request.task is not None:
        names = request.task.layer_names(request.num_targets)[::-1]
        stacks = [
            LayerStack(
                [Layer(image=image, name=name) for image, name in zip(entry, names, strict=True)],
                size=entry[0].size,
                metadata=provenance(request, profile, k, seed, work_size),
            )
            for k, entry in enumerate(images)
        ]
    if output_type == "pil":
        return OmniAlphaOutput(images=images, stacks=stacks)
    layers_BLCHW = layers_BLCHW.cpu()
    return OmniAlphaOutput(
        images=layers_BLCHW if output_type == "pt" else layers_BLCHW.permute(0, 1, 3, 4, 2).numpy(), stacks=stacks
    )


def provenance(request: Request, profile: Profile, entry: int, seed: int | None, work_size: Size) -> dict[str, Any]:
    """What is needed, beside weights and pictures, to make one batch entry again; in JSON types."""
    return {
        "task": None if request.task is None else request.task.id,
        "text": request.texts[entry],
        "prompt": request.prompts[entry],
        "seed": None if seed is None else seed + entry,
        "num_inference_steps": request.steps,
        "true_cfg_scale": request.true_cfg_scale,
        "guidance_interval": list(request.guidance_interval),
        "step_cache": request.step_cache,
        "profile": profile.name,
        "work_size": list(work_size),
    }
