"""How well the layers of a triplet fit together (Eq. 9–12), which triplets to keep, and how to split them.

Images are straight RGBA or RGB floats in [0, 1]. Lower scores are better.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from omnialpha.data.manifest import Sample
from omnialpha.errors import InputError
from omnialpha.imaging.masks import VISIBLE
from omnialpha.imaging.rgba import read_array

WEIGHT = 0.6
"""λ of Eq. 12."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Consistency of a triplet.

    Attributes:
        foreground: MSE_fg→comp of Eq. 9.
        recomposite: MSE_recomp→comp of Eq. 11.
    """

    foreground: float
    recomposite: float

    @property
    def total(self) -> float:
        """S of Eq. 12, from 0 (perfect) to 3."""
        return WEIGHT * self.foreground + (1 - WEIGHT) * self.recomposite


def score(foreground: np.ndarray, background: np.ndarray, composite: np.ndarray) -> Score:
    """Compare a composite with its foreground, and with foreground over background.

    Eq. 9 compares I_fg with I_comp·α. On soft edges this makes sense only if I_fg is already multiplied by α, so it is
    read as E_Ω ‖I_fg·α − I_comp·α‖², like the I_fg·α of Eq. 10. ‖·‖² is the sum over the three colours.

    Args:
        foreground: ``(H, W, 4)``, straight alpha.
        background: ``(H, W, 3)``, or ``(H, W, 4)`` whose alpha is ignored.
        composite: The same.

    Returns:
        Both errors of Eq. 9 and 11.

    Raises:
        InputError: Sizes differ, values lie outside [0, 1], or nothing of the foreground is visible.

    >>> red, blue = np.array([[[1.0, 0, 0, 0.5]]]), np.array([[[0, 0, 1.0]]])
    >>> score(red, blue, np.array([[[0.5, 0, 0.5]]])).recomposite
    0.0
    """
    if foreground.ndim != 3 or foreground.shape[2] != 4:
        raise InputError(f"the foreground has shape (H, W, 4), not {foreground.shape}; give it with its alpha channel")
    for name, image in {"foreground": foreground, "background": background, "composite": composite}.items():
        if image.ndim != 3 or image.shape[:2] != foreground.shape[:2] or image.shape[2] not in (3, 4):
            raise InputError(
                f"the {name} has shape {image.shape}, the foreground {foreground.shape}; resize one of them"
            )
        if not (image.min() >= 0 and image.max() <= 1):  # written so that NaN fails too
            raise InputError(f"the {name} lies in [0, 1], not [{image.min()}, {image.max()}]; scale it first")
    alpha = foreground[..., 3:].astype(np.float64)
    visible = alpha[..., 0] > VISIBLE
    if not visible.any():
        raise InputError(f"the foreground is nowhere more opaque than {VISIBLE}; leave it out")
    layer, target = foreground[..., :3] * alpha, composite[..., :3].astype(np.float64)
    recomposite = layer + background[..., :3] * (1 - alpha)
    return Score(
        foreground=float(((layer - target * alpha) ** 2).sum(axis=-1)[visible].mean()),
        recomposite=float(((recomposite - target) ** 2).sum(axis=-1).mean()),
    )


def score_files(sample: Sample) -> Score:
    """Score a sample of a manifest.

    Args:
        sample: With one foreground, a background and a composite.

    Returns:
        Both errors of Eq. 9 and 11.

    Raises:
        InputError: It has not these three, or `score` refuses them.
        ImageError: A file cannot be read.
    """
    if len(sample.foregrounds) != 1 or sample.background is None or sample.composite is None:
        raise InputError(f"{sample.id}: a score needs one foreground, a background and a composite; leave it out")
    return score(*(read_array(file) for file in (sample.foregrounds[0], sample.background, sample.composite)))


def keep_best(scores: Mapping[str, float], count: int) -> list[str]:
    """Choose the samples with the lowest scores; of equal ones those whose ids come first.

    Args:
        scores: Id to score.
        count: How many, or all when there are fewer.

    Returns:
        Ids from best to worst, the same whatever the order of `scores`.

    Raises:
        InputError: A score is not a number, or `count` is negative.

    >>> keep_best({"b": 0.1, "c": 0.2, "a": 0.1}, 2)
    ['a', 'b']
    """
    if count < 0:
        raise InputError(f"the number of samples to keep is at least 0, not {count}; give a larger one")
    broken = [sample for sample, value in scores.items() if math.isnan(value)]
    if broken:
        raise InputError(f"{len(broken)} scores are not numbers, the first is that of {broken[0]}; leave them out")
    return sorted(scores, key=lambda sample: (scores[sample], sample))[:count]


def split(identities: Mapping[str, str], test: int) -> dict[str, str]:
    """Put samples into "train" and "test" so that no foreground is on both sides.

    Identities are taken in the order of their hashes, so a split depends on nothing but the names, and each goes to the
    test side as long as it fits there whole.

    Args:
        identities: Sample id to the identity of its foreground, e.g. the hash of its pixels or the object's name.
        test: How many samples are to be held out; fewer are where no set of whole identities found this way has that
            many.

    Returns:
        Sample id to split, in the order of `identities`.

    Raises:
        InputError: More samples are to be held out than there are.

    >>> sides = split({"cat-1": "cat", "cat-2": "cat", "dog-1": "dog"}, test=1)
    >>> sides["cat-1"] == sides["cat-2"], sides["dog-1"]
    (True, 'test')
    """
    if not 0 <= test <= len(identities):
        raise InputError(f"{test} of {len(identities)} samples cannot be held out; give a number from 0 to all of them")
    members = defaultdict(list)
    for sample, identity in identities.items():
        members[identity].append(sample)
    held_out: set[str] = set()
    for identity in sorted(members, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if len(held_out) + len(members[identity]) <= test:
            held_out.update(members[identity])
    return {sample: "test" if sample in held_out else "train" for sample in identities}
