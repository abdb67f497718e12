"""A profile says how a set of weights wants to be used: layer order, prompt format, working sizes, sampling defaults.

The paper and the authors' released software differ in some of these, and a small model differs from a large one, so
they belong to the checkpoint: `RELEASED` for the authors' weights, `PAPER` for weights trained as the paper writes.
A saved pipeline carries its profile in its config (`to_dict` / `from_dict`). This module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omnialpha.errors import CheckpointError, nearest

QWEN_EDIT_TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""The chat template of Qwen-Image-Edit-2509 (Apache-2.0); pictures and instruction take the place of ``{}``."""

QWEN_PICTURE_TEMPLATE = "Picture {}: <|vision_start|><|image_pad|><|vision_end|>"
"""How Qwen-Image-Edit-2509 announces picture number ``{}``."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a checkpoint is to be used.

    Attributes:
        name: shown to users.
        layer_order: "paper" (target k at z = -k; foregrounds front to back, then the background) or "released"
            (target k at z = k - 1 - m; the background first, then foregrounds back to front).
        prompt_template: text around the pictures and the instruction, with one ``{}``; the tokens before ``{}`` are
            dropped from the embeddings.
        picture_template: announces one picture, with one ``{}`` for its number.
        transpose_vlm_image: squeeze each picture into its transposed shape before the VLM sees it: a slip of the
            released software that its weights were trained with.
        vlm_area: pictures larger than this (pixels) are shrunk to it for the VLM; None: their own area.
        grid: working widths and heights are multiples of this (pixels).
        max_area: the largest working area of one picture (pixels) unless the caller sets a size; None: no limit.
        max_total_area: the same for all inputs and outputs of one call together.
        steps: default number of sampling steps.
        true_cfg_scale: default guidance; 1 turns guidance off.
        task_steps: other step numbers for single tasks.
        task_cfg: other guidance for single tasks.
        instructions: wordings that these weights were tuned with, by task; ``{text}`` stands for the caption.
        clean_transparent: set the colour of fully transparent pixels of an input to black before the VAE.
        mag_ratios: how the transformer's residual grows from step to step, measured on these weights by
            `omnialpha calibrate`; step caching with "magcache" needs it.
    """

    name: str
    layer_order: Literal["paper", "released"] = "paper"
    prompt_template: str = QWEN_EDIT_TEMPLATE
    picture_template: str = QWEN_PICTURE_TEMPLATE
    transpose_vlm_image: bool = False
    vlm_area: int | None = None
    grid: int = 32
    max_area: int | None = None
    max_total_area: int | None = None
    steps: int = 50
    true_cfg_scale: float = 4.0
    task_steps: Mapping[str, int] = field(default_factory=dict)
    task_cfg: Mapping[str, float] = field(default_factory=dict)
    instructions: Mapping[str, str] = field(default_factory=dict)
    clean_transparent: bool = False
    mag_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.layer_order not in ("paper", "released"):
            raise CheckpointError(
                f'profile {self.name}: layer_order is "paper" or "released", not "{self.layer_order}"'
            )
        if self.prompt_template.count("{}") != 1 or self.picture_template.count("{}") != 1:
            raise CheckpointError(f'profile {self.name}: prompt_template and picture_template need exactly one "{{}}"')

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values.

        >>> Profile.from_dict(RELEASED.to_dict()) == RELEASED
        True
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {name: dict(value) for name, value in values.items() if isinstance(value, Mapping)}
        return values | {"mag_ratios": list(self.mag_ratios)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """The profile written by :meth:`to_dict`; fields left out keep their defaults.

        Raises:
            CheckpointError: a field is unknown, or its value is not allowed.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise CheckpointError(f'unknown profile field "{name}"{nearest(name, known)}')
        return cls(**{**values, "mag_ratios": tuple(values.get("mag_ratios", ()))})


_RELEASED_REMOVAL = (
    "Use the first image as the source scene and the second image as the object mask. Remove the masked object and all "
    "of its associated effects, including shadows, reflections, highlights, contact traces, and residual artifacts, "
    "even when these effects extend beyond the mask. Reconstruct the clean base background as if the object had never "
    "been present."
)

_RELEASED_DECOMPOSITION = (
    "Decompose this image into an ordered back-to-front layer sequence: output the complete background first, then "
    "output complete RGBA foreground layers in depth order, where each foreground layer preserves the entire object "
    "rather than only its visible region, and the original image must be exactly reconstructed by sequentially "
    "alpha-compositing these layers one by one from back to front."
)

PAPER = Profile(name="paper")
"""Weights trained as the paper writes, on the full-size base model."""

RELEASED = Profile(
    name="released",
    layer_order="released",
    transpose_vlm_image=True,
    max_total_area=1024 * 1024,
    instructions={
        "text_to_image": "Generate a transparent-background RGBA image. {text}",
        "matting_auto": (
            "Automatically matte this image and extract the foreground with a physically accurate alpha channel that "
            "preserves true transparency and fine details."
        ),
        "matting_text": "Extract the object described by the text, preserving fine details and transparency: {text}",
        "removal_alpha": _RELEASED_REMOVAL,
        "removal_trimap": _RELEASED_REMOVAL,
        "removal_precise_mask": _RELEASED_REMOVAL,
        "removal_rough_mask": _RELEASED_REMOVAL,
        "decomposition_auto": _RELEASED_DECOMPOSITION,
    },
)
"""The authors' released weights (hub id Longin-Yu/OmniAlpha), as their software uses them."""
