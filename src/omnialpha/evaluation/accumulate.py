"""Averages over a data set as sums and counts, so that shards and processes merge exactly; and what "better" means."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from omnialpha.errors import InputError

DIRECTION: Mapping[str, Literal["lower", "higher"]] = MappingProxyType(
    {
        "sad": "lower",
        "mse": "lower",
        "mad": "lower",
        "grad": "lower",
        "conn": "lower",
        "fid": "lower",
        "clip_fid": "lower",
        "clip_score": "higher",
        "psnr": "higher",
        "ssim": "higher",
        "lpips": "lower",
        "rgb_l1": "lower",
        "alpha_soft_iou": "higher",
        "cost": "lower",
        "recomposition_l1": "lower",
        "recomposition_mse": "lower",
    }
)
"""Which way each metric improves."""


class Mean:
    """Mean of named per-image values, each with its own count: never a mean of means.

    >>> first, second = Mean(), Mean()
    >>> first.update({"sad": 1.0, "mse": 0.5})
    >>> second.update({"sad": 3.0})
    >>> first.merge(second)
    >>> first.compute(), first.counts
    ({'sad': 2.0, 'mse': 0.5}, {'sad': 2, 'mse': 1})
    """

    def __init__(self) -> None:
        # A sum is a list of floats without rounding error among them (Shewchuk): merging in any order gives one result.
        self._partials: dict[str, list[float]] = {}
        self.counts: dict[str, int] = {}

    def update(self, values: Mapping[str, float]) -> None:
        """Add the values of one image.

        Args:
            values: Name to value. Infinity is a value (the PSNR of equal pictures) and makes the mean infinite.

        Raises:
            InputError: A value is not a number.
        """
        for name, value in values.items():
            if math.isnan(value):
                raise InputError(f'"{name}" is not a number for this image; leave the image out and report it')
        for name, value in values.items():
            self._add(name, [float(value)], 1)

    def merge(self, other: "Mean") -> None:
        """Add all that another accumulator has seen.

        Args:
            other: Accumulator of another shard; it is left as it is.
        """
        for name, partials in list(other._partials.items()):
            self._add(name, partials, other.counts[name])

    def compute(self) -> dict[str, float]:
        """Means by name; names never seen are absent."""
        return {name: math.fsum(self._partials[name]) / count for name, count in self.counts.items()}

    def to_dict(self) -> dict[str, Any]:
        """All of the state, ready for JSON."""
        return {name: {"sum": self._partials[name], "count": count} for name, count in self.counts.items()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Mean":
        """Take up a state again.

        Args:
            state: What `to_dict` returned.

        Returns:
            An accumulator that goes on from there.

        >>> Mean.from_dict({"sad": {"sum": [4.0], "count": 2}}).compute()
        {'sad': 2.0}
        """
        mean = cls()
        for name, part in state.items():
            mean._add(name, part["sum"], part["count"])
        return mean

    def _add(self, name: str, values: list[float], count: int) -> None:
        self._partials[name] = list(_exact_sum([*self._partials.get(name, []), *values]))
        self.counts[name] = self.counts.get(name, 0) + count


def _exact_sum(values: list[float]) -> Iterator[float]:
    """Floats of falling size whose exact sum is that of the values."""
    while values:
        total = math.fsum(values)
        yield total
        if total == 0 or math.isinf(total):
            return
        values = [*values, -total]
        if math.fsum(values) == 0:
            return
