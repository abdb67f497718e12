"""Low-rank adapters of the transformer: attach, load, fuse, unload and save.

Files are in diffusers' LoRA format, as the released weights are, or in one that diffusers converts (kohya's and others'
with ``lora_down``, ``lora_up``, ``alpha``). diffusers only warns about keys that fit nothing. Here they are an error:
what is silently half loaded gives plausible, wrong pictures. Several adapters add up.
"""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import QwenImageTransformer2DModel
from diffusers.loaders import QwenImageLoraLoaderMixin
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from omnialpha.errors import CheckpointError, InputError

ATTENTION_TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Attention layers of every block, image and text stream: all that the released adapter has."""

MLP_TARGETS = ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2")
"""Feed-forward layers of every block; the paper adapts them together with the attention."""

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
"""diffusers' name for an adapter file."""

_KEY = re.compile(r"transformer\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


def add_lora(
    transformer: QwenImageTransformer2DModel,
    rank: int,
    *,
    targets: Iterable[str] = ATTENTION_TARGETS + MLP_TARGETS,
    name: str = "default",
) -> None:
    """Attach a new adapter that changes nothing yet, ready for training (alpha = rank, so its scale is 1).

    Args:
        transformer: changed in place; only the adapter's weights require gradients afterwards.
        rank: rank of the update; the paper takes 256.
        targets: ends of the names of the layers to adapt.
        name: name of the adapter.

    Raises:
        InputError: a target is the end of no linear layer's name; peft would leave it out in silence.
    """
    targets = list(targets)
    layers = _linear_layers(transformer)
    if missing := [target for target in targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]:
        raise InputError(f"LoRA targets that match no linear layer of the transformer: {', '.join(missing)}")
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name=name)


def load_lora(transformer: QwenImageTransformer2DModel, file: str | Path, *, name: str = "default") -> None:
    """Attach the adapter stored in a file, beside those that are attached, all at full strength.

    Args:
        transformer: changed in place.
        file: a `.safetensors` file in diffusers' LoRA format, or in one that diffusers converts.
        name: name for the adapter.

    Raises:
        CheckpointError: the file is missing, or some of its keys fit no layer of this transformer (all are listed).
        InputError: an adapter of that name is attached already.
    """
    file = Path(file)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; an adapter is a .safetensors file in diffusers' LoRA format")
    if name in getattr(transformer, "peft_config", {}):
        raise InputError(f'an adapter named "{name}" is attached already; unload it first or give another name')
    state, metadata = _read(file)
    check_fit(transformer, state, source=str(file))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are meant
        transformer.load_lora_adapter(state, prefix="transformer", adapter_name=name, metadata=metadata)
    transformer.set_adapters(list(transformer.peft_config))  # peft leaves the newest alone active


def check_fit(transformer: QwenImageTransformer2DModel, state: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse an adapter of which anything would be left out.

    Args:
        transformer: what it is for.
        state: its weights, keys in diffusers' format.
        source: where they come from, for the message.

    Raises:
        CheckpointError: some keys fit no linear layer of the transformer; all are listed.
    """
    layers = _linear_layers(transformer)
    problems = [problem for key in state if (problem := _misfit(key, state, layers))]
    if problems:
        raise CheckpointError(
            f"{source}: {len(problems)} of {len(state)} keys fit nothing in this transformer: {'; '.join(problems)}"
        )


def fuse(transformer: QwenImageTransformer2DModel, *, scale: float = 1.0) -> None:
    """Add the attached adapters to the weights and remove their layers: faster, savable, and final.

    Args:
        transformer: changed in place.
        scale: strength of the adapters.

    Raises:
        InputError: no adapter is attached.
    """
    _require_adapter(transformer)
    transformer.fuse_lora(lora_scale=scale, safe_fusing=True)
    transformer.unload_lora()


def unload(transformer: QwenImageTransformer2DModel, *, name: str | None = None) -> None:
    """Remove adapters; the transformer is again what it was before they were attached.

    Args:
        transformer: changed in place.
        name: of the only adapter to remove; None: all.

    Raises:
        InputError: no adapter, or none of that name, is attached.
    """
    _require_adapter(transformer)
    if name is not None:
        _config(transformer, name)
    if name is None or len(transformer.peft_config) == 1:
        transformer.unload_lora()  # with the layers around the weights, which would be saved otherwise
    else:
        transformer.delete_adapters(name)
        transformer.set_adapters(list(transformer.peft_config))


def save_lora(
    transformer: QwenImageTransformer2DModel,
    folder: str | Path,
    *,
    name: str = "default",
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write an attached adapter as ``folder/pytorch_lora_weights.safetensors``, the layout of the released weights.

    Args:
        transformer: has the adapter.
        folder: made when it does not exist.
        name: of the adapter.
        weights: its weights as peft names them, where the transformer holds only shards of them.

    Returns:
        The file.

    Raises:
        InputError: no adapter of that name is attached.
    """
    config = _config(transformer, name)
    QwenImageLoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers=weights or get_peft_model_state_dict(transformer, adapter_name=name),
        transformer_lora_adapter_metadata=config.to_dict(),
        weight_name=WEIGHTS_NAME,
    )
    return Path(folder) / WEIGHTS_NAME


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Weights with diffusers' names, scaled so that alpha = rank, and the adapter's configuration if it is stored.

    Raises:
        CheckpointError: diffusers cannot make out all of it.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            lost = _lost(list(stored.keys()))
        state, metadata = QwenImageLoraLoaderMixin.lora_state_dict(
            str(file.parent), weight_name=file.name, local_files_only=True, return_lora_metadata=True
        )
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        # A half of a pair leads diffusers' conversion to the last two, with the key as their message.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file}: is no complete LoRA file ({reason}); download it again") from error
    if lost:
        raise CheckpointError(f"{file}: {len(lost)} keys mean nothing to diffusers' LoRA: {'; '.join(lost)}")
    if not state:
        raise CheckpointError(
            f"{file}: holds no LoRA weights; an adapter has lora_A and lora_B, or lora_down and lora_up"
        )
    return state, metadata


def _lost(keys: Sequence[str]) -> list[str]:
    """Keys that diffusers' conversion would drop without a word: directions of DoRA, and scales of missing weights."""
    weights = {key.rpartition(".lora_")[0] for key in keys}
    return [
        key
        for key in keys
        if "dora_scale" in key or (key.endswith(".alpha") and key.removesuffix(".alpha") not in weights)
    ]


def _config(transformer: QwenImageTransformer2DModel, name: str) -> LoraConfig:
    attached = getattr(transformer, "peft_config", {})
    if name not in attached:
        raise InputError(f'no adapter named "{name}" is attached to the transformer, only {list(attached)}')
    return attached[name]


def _require_adapter(transformer: QwenImageTransformer2DModel) -> None:
    if not getattr(transformer, "peft_config", {}):
        raise InputError("no adapter is attached to the transformer; attach one with load_lora")


def _linear_layers(transformer: QwenImageTransformer2DModel) -> dict[str, nn.Linear]:
    """The transformer's own linear layers by name, also those that attached adapters are wrapped around."""
    layers: dict[str, nn.Linear] = {}
    wrapped: tuple[str, ...] = ()
    for name, module in transformer.named_modules():  # outer ones first
        layer = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if layer is not module:
            wrapped += (f"{name}.",)
        if isinstance(layer, nn.Linear) and not name.startswith(wrapped):
            layers[name] = layer
    return layers


def _misfit(key: str, state: Mapping[str, Tensor], layers: Mapping[str, nn.Linear]) -> str | None:
    """What is wrong with one key, None when it fits."""
    match = _KEY.fullmatch(key)
    layer = layers.get(match["module"]) if match else None
    if match is None or layer is None:
        return key
    # y = W x + B A x with A (rank, in) and B (out, rank).
    axis, expected = (1, layer.in_features) if match["side"] == "A" else (0, layer.out_features)
    shape = tuple(state[key].shape)
    if len(shape) != 2 or shape[axis] != expected:
        return f"{key} (shape {shape}, layer {tuple(layer.weight.shape)})"
    partner = key.replace(f"lora_{match['side']}", "lora_B" if match["side"] == "A" else "lora_A")
    return None if partner in state else f"{key} (without {partner})"
