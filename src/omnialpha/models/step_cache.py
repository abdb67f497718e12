"""Step caching: at steps whose result is nearly known the transformer's blocks are skipped, by diffusers' own hooks.

| name | skips | when | threshold |
| --- | --- | --- | --- |
| ``first_block`` | all blocks but the first | the first block's residual is nearly that of the last full step | the relative change allowed |
| ``magcache`` | all blocks | the size of the residual, known from ratios measured beforehand, says that little changes | the summed error allowed |
| ``taylorseer`` | all blocks | always, except at every k-th step; the output is continued as a Taylor series | k |

A cache lives for one call: `cached` puts the hooks in place and takes them away, whatever happens in between. A cached
residual has the shape of its batch and is good for the next steps only, so the loop names a ``cache_context`` for every
run of steps with one batch layout; each context begins with full steps.
"""  # noqa: E501  (a table)

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from torch import Tensor, nn

from omnialpha.errors import InputError, nearest

STEP_CACHES = ("first_block", "magcache", "taylorseer")
"""Names of the caches."""

MAGCACHE_THRESHOLD = 0.06
"""diffusers' default; the ratios adapt it to the number of steps."""

WARM_UP = 0.2
"""Share of the first steps, at high noise, that TaylorSeer and MagCache compute fully: they decide the composition."""

CacheConfig: TypeAlias = FirstBlockCacheConfig | MagCacheConfig | TaylorSeerCacheConfig


def cache_config(option: str | None, steps: int, mag_ratios: Sequence[float] = ()) -> CacheConfig | None:
    """What diffusers needs to know for a call.

    Args:
        option: ``NAME`` or ``NAME=threshold``; None: no cache.
        steps: sampling steps of the call.
        mag_ratios: of the checkpoint, for "magcache"; see :func:`magnitude_ratios`.

    Raises:
        InputError: the name or threshold is not allowed, or "magcache" has no ratios.

    >>> cache_config("first_block=0.1", 50)
    FirstBlockCacheConfig(threshold=0.1)
    >>> cache_config("taylorseer", 20).cache_interval, cache_config("taylorseer", 50).cache_interval
    (2, 3)
    """
    if option is None:
        return None
    name, _, value = option.partition("=")
    if name not in STEP_CACHES:
        raise InputError(f'unknown step cache "{name}", expected one of {STEP_CACHES}{nearest(name, STEP_CACHES)}')
    if name == "taylorseer":
        return TaylorSeerCacheConfig(
            cache_interval=_interval(value) if value else min(max(round(steps / 16), 2), 5),
            disable_cache_before_step=max(2, round(WARM_UP * steps)),  # a slope takes two steps
            taylor_factors_dtype=torch.float32,  # of the output only: small
            # Blocks are skipped and the output predicted. Predicting every attention instead, diffusers' default, saves
            # less time and keeps two tensors for each of the 60 blocks.
            use_lite_mode=True,
        )
    if name == "first_block":
        # Fewer steps are further apart, so a step that may be skipped differs by more.
        default = min(0.08 * (50 / steps) ** 0.5, 0.15)
        return FirstBlockCacheConfig(threshold=_threshold(option, value) if value else default)
    if not mag_ratios:
        raise InputError(
            "magcache needs ratios measured on these weights, and this checkpoint's profile has none; "
            "measure them with: omnialpha calibrate --model … (or use first_block or taylorseer, which need none)"
        )
    return MagCacheConfig(
        threshold=_threshold(option, value) if value else MAGCACHE_THRESHOLD,
        retention_ratio=WARM_UP,
        num_inference_steps=steps,
        mag_ratios=resampled(mag_ratios, steps),
    )


@contextmanager
def cached(transformer: QwenImageTransformer2DModel, config: CacheConfig | None) -> Iterator[None]:
    """Cache steps inside the block; afterwards the transformer is as it was, and so is whatever comes next.

    Args:
        transformer: called inside ``cache_context``, one name for every run of steps with one batch layout.
        config: from :func:`cache_config`; None changes nothing.

    Raises:
        InputError: the transformer has a cache already, or a single block, of which nothing could be skipped.
    """
    if config is None:
        yield
        return
    if transformer.is_cache_enabled:
        raise InputError(
            "a cache is enabled on the transformer already; leave step_cache out, or call "
            "pipe.transformer.disable_cache() first"
        )
    if len(transformer.transformer_blocks) < 2:
        raise InputError("step caching needs a transformer of two blocks or more; leave step_cache out")
    transformer.enable_cache(config)
    try:
        yield
    finally:
        transformer.disable_cache()
        for module in transformer.modules():
            # Where a hook was, diffusers leaves the class's own forward as an attribute that hides the class's.
            if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
                del module.forward


@contextmanager
def residual_norms(transformer: QwenImageTransformer2DModel) -> Iterator[list[Tensor]]:
    """Record, for every call inside the block, by how much all blocks together move each image token.

    Yields:
        A list that grows by one tensor (B, S) for each call of the transformer: ‖last block's output − first's input‖.
    """
    norms: list[Tensor] = []
    entering: list[Tensor] = []

    def on_enter(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering.append(kwargs["hidden_states"])

    def on_leave(_module: nn.Module, _args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, hidden_states_BSC = output
        norms.append((hidden_states_BSC - entering.pop()).float().norm(dim=-1))

    blocks = transformer.transformer_blocks
    handles = [
        blocks[0].register_forward_pre_hook(on_enter, with_kwargs=True),
        blocks[-1].register_forward_hook(on_leave),
    ]
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()


def magnitude_ratios(norms: Sequence[Tensor], steps: int) -> list[float]:
    """MagCache's ratios: the mean size of a step's residual over that of the step before; 1 for the first step.

    Args:
        norms: of one call of the pipeline, from :func:`residual_norms`. Where guidance takes two calls for each step,
            the ratios are their geometric mean.
        steps: sampling steps of that call.

    Returns:
        One ratio for each step.

    Raises:
        InputError: the calls cannot be divided among the steps: it was interrupted, or guided for a part of the steps.
    """
    branches, rest = divmod(len(norms), steps)
    if rest or not norms:
        raise InputError(
            f"expected the same number of transformer calls in each of {steps} steps, received {len(norms)}"
        )
    ratios = torch.ones(branches, steps, dtype=torch.float64)
    for call in range(branches, len(norms)):
        step, branch = divmod(call, branches)
        ratios[branch, step] = (norms[call] / norms[call - branches].clamp(min=1e-8)).mean()
    return ratios.log().mean(0).exp().tolist()


def resampled(ratios: Sequence[float], steps: int) -> list[float]:
    """Ratios for another number of steps.

    A ratio belongs to the way from one noise level to the next: over a way twice as long the residual changes twice as
    often, so the products are interpolated. (diffusers takes the ratio of the nearest step.)

    Args:
        ratios: of N steps, at t = 1, 1 − 1/N, …
        steps: the number wanted.

    >>> [round(ratio, 6) for ratio in resampled([1.0, 1.1, 1.1, 1.1], 2)]
    [1.0, 1.21]
    """
    known, wanted = np.arange(len(ratios)) / len(ratios), np.arange(steps) / steps
    size = np.interp(wanted, known, np.cumsum(np.log(ratios)))
    return np.exp(np.diff(size, prepend=size[0])).tolist()


def _threshold(option: str, value: str) -> float:
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold < float("inf"):
        raise InputError(f'"{option}": the threshold is a number of 0 or more, as in "first_block=0.1"')
    return threshold


def _interval(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise InputError(f'"taylorseer={value}": the number of steps of which one is computed is 1 or more')
    return int(value)
