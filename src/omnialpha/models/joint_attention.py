"""Joint attention of images and text without gradients: projections, rotations and attention of one transformer block.

Used by `models.fast_forward`; see there for what it saves and for the order of the tokens, [images | text].

Shape suffixes: B batch, S image tokens, T text tokens, L = S + T, H heads, D values per token or per head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

IMAGE_QKV = ("to_q", "to_k", "to_v")
TEXT_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")


def joint_attention(
    attn: Attention,
    image_bSD: Tensor,
    text_BTD: Tensor,
    rotations: Tensor,
    mask_B11L: Tensor | None = None,
    text_lengths: Sequence[int] | None = None,
    num_targets: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Attention among all tokens, through the backend that is set on the module's processor.

    Args:
        attn: the layers, inside :func:`joint_qkv`.
        image_bSD: image tokens, b a divisor of B: the rows repeat.
        text_BTD: text tokens.
        rotations: cosine and sine, (L, D/2, 2).
        mask_B11L: true for real tokens; None: all are.
        text_lengths: real text tokens of each of k equal parts of the batch; None: all are.
        num_targets: let only this many image tokens ask, and no text; None: all.

    Returns:
        Outputs of the image tokens and of the text tokens, None where no text asked.
    """
    B, T, S = len(text_BTD), text_BTD.shape[1], image_bSD.shape[1]
    image_q, image_k, image_v = _project(attn, IMAGE_QKV, image_bSD, num_targets)
    text_q, text_k, text_v = _project(attn, TEXT_QKV, text_BTD, None if num_targets is None else 0)
    image_q, image_k = attn.norm_q(image_q), attn.norm_k(image_k)
    k = rotated(_joined(image_k, attn.norm_added_k(text_k), B), rotations)
    v = _joined(image_v, text_v, B)
    if num_targets is None:
        q = rotated(_joined(image_q, attn.norm_added_q(text_q), B), rotations)
    else:
        q = repeated(rotated(image_q, rotations[:num_targets]), B)

    out_BLD = _attend(attn, q, k, v, mask_B11L, S, text_lengths or (T,)).flatten(2)
    image_out = attn.to_out[1](attn.to_out[0](out_BLD[:, :S].contiguous()))
    return image_out, attn.to_add_out(out_BLD[:, S:].contiguous()) if num_targets is None else None


def rotated(x_BLHD: Tensor, rotations: Tensor) -> Tensor:
    """Turn each pair of values by its token's angles; ``x_BLHD`` may be overwritten.

    Args:
        x_BLHD: queries or keys.
        rotations: cosine and sine, (L, D/2, 2) float32.
    """
    pairs = x_BLHD.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # no code is generated for complex numbers
        (a, b), (cos, sin) = pairs.unbind(-1), rotations[:, None].unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs).mul_(torch.view_as_complex(rotations)[:, None]))
    return turned.flatten(-2).to(x_BLHD.dtype)


def repeated(x: Tensor, batch: int) -> Tensor:
    """The rows of ``x`` again and again until there are ``batch``."""
    return x if len(x) == batch else x.repeat(batch // len(x), *[1] * (x.ndim - 1))


@contextmanager
def joint_qkv(attn: Attention, device: torch.device, *, allowed: bool = True) -> Iterator[None]:
    """Inside the block one multiplication gives query, key and value, where that is possible.

    The three weights are moved into one piece of memory and stay there as views of it: their names, values and files do
    not change. They are left apart where one is adapted, quantised, hooked, sharded or on another device: then its
    module does what it has to. The whole is forgotten afterwards, or it would keep offloaded weights on the device.
    """
    # Not through setattr: a tensor in the dictionary is neither parameter nor buffer, so nothing saves or moves it.
    attn.__dict__["_qkv"] = {
        names: _join([getattr(attn, name) for name in names], device) if allowed else None
        for names in (IMAGE_QKV, TEXT_QKV)
    }
    try:
        yield
    finally:
        del attn.__dict__["_qkv"]


def hooked(module: nn.Module) -> bool:
    """Whether somebody watches or replaces the calls of a module: diffusers, accelerate or torch hooks."""
    registry = getattr(module, "_diffusers_hook", None)
    return bool(
        (registry is not None and registry.hooks)
        or hasattr(module, "_hf_hook")
        or module._forward_hooks
        or module._forward_pre_hooks
    )


def _join(layers: list[nn.Module], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of all layers as one, None where they have to stay apart."""
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for layer in layers:
        if type(layer) is not nn.Linear or type(layer.weight.data) is not Tensor or hooked(layer):
            return None
        if layer.bias is None or layer.weight.device != device:
            return None
        weights.append(layer.weight)
        biases.append(layer.bias)
    return _one_piece(weights), _one_piece(biases)


def _one_piece(parts: list[Tensor]) -> Tensor:
    """The parts one behind the other, moved into one piece of memory unless they lie there already."""
    first, address = parts[0].data, parts[0].data_ptr()
    storage = first.untyped_storage().data_ptr()
    for part in parts:  # moving, casting or loading takes them apart again
        if part.data_ptr() != address or part.untyped_storage().data_ptr() != storage or not part.is_contiguous():
            break
        address += part.nbytes
    else:
        shape = (sum(len(part) for part in parts), *first.shape[1:])
        return first.as_strided(shape, first.stride())
    whole = torch.cat([part.data for part in parts])
    for part, view in zip(parts, whole.split([len(part) for part in parts]), strict=True):
        part.data = view
    return whole


def _project(
    attn: Attention, names: tuple[str, str, str], x_BLD: Tensor, num_queries: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the first tokens (None: of all), keys and values of all, (B, L, H, D)."""
    heads = (-1, attn.inner_dim // attn.heads)
    whole = attn.__dict__["_qkv"][names]
    if whole is not None and num_queries is None:
        q, k, v = F.linear(x_BLD, *whole).chunk(3, dim=-1)
    else:
        to_q, to_k, to_v = (getattr(attn, name) for name in names)
        q, k, v = to_q(x_BLD[:, :num_queries]), to_k(x_BLD), to_v(x_BLD)
    return q.unflatten(-1, heads), k.unflatten(-1, heads), v.unflatten(-1, heads)


def _joined(image_bSHD: Tensor, text_BTHD: Tensor, batch: int) -> Tensor:
    return torch.cat([repeated(image_bSHD, batch), text_BTHD], dim=1)


def _attend(
    attn: Attention,
    q_BQHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    mask_B11L: Tensor | None,
    num_image: int,
    text_lengths: Sequence[int],
) -> Tensor:
    """Attention of each part of the batch to its real tokens, (B, Q, H, D); padding gets zeros."""
    rows, parts = len(k_BLHD) // len(text_lengths), []
    for number, length in enumerate(text_lengths):
        own, end = slice(number * rows, (number + 1) * rows), num_image + length
        out = dispatch_attention_fn(
            q_BQHD[own, :end],
            k_BLHD[own, :end],
            v_BLHD[own, :end],
            attn_mask=None if mask_B11L is None else mask_B11L[own, ..., :end],
            backend=attn.processor._attention_backend,
        )
        parts.append(F.pad(out, (0, 0, 0, 0, 0, q_BQHD.shape[1] - out.shape[1])))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
