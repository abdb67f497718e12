"""The shape of an object from a small alpha and the picture: which regions the model meant.

A model that works at 64² finds about where an object is, not its outline. The picture has the outline. Here every pixel
is asked again, at a size of some 190², whether it is foreground:

- its colour: L = log of how frequent the colour is in the foreground over how frequent in the background, both as
  histograms, weighted by the present answer u;
- its place: the logit of the model's alpha p, blurred, as a weak prior;
- its neighbours: contours cost little on contours of the picture, much elsewhere.

The answer minimises a weighted total variation, which is convex:

    minimise  Σ w·|∇u| − λ·Σ u·(L + β·logit p)   over u in [0, 1]

by the primal-dual method of Chambolle and Pock ("A First-Order Primal-Dual Algorithm", 2011). Its colours are counted
anew and all repeated, as in GrabCut (Rother, Kolmogorov and Blake, 2004), whose graph cut the minimum replaces.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from omnialpha.imaging.refine.planes import Size, resized_plane

AREA = 192 * 192  # pixels at which regions are looked for; a model that works at more sees them itself
ROUNDS, STEPS = 6, 60  # colours counted, and steps of the primal-dual method in between
STEP = 0.35  # of both variables: stable up to 1/√8
COLOURS, SPREAD = 24, 0.7  # bins of each channel, and σ in bins over which their counts are spread
UNSEEN = 0.1  # chance of colours that were not seen, in units of an even distribution
MOST_COLOUR, MOST_PLACE = 3.0, 3.0  # log-odds beyond which colour and model say nothing more
PLACE = 0.35  # β
EVIDENCE = 0.05  # λ
CROSSING = 0.15  # least of w, against 1 in even areas
BLUR = 1.0  # σ of the prior, working pixels
DECIDED = 0.1  # u this close to 0 or 1, and in all of its neighbourhood, is an answer
BAND = 5  # side of the neighbourhood: the matte's edge is left to the picture at full size
IMPOSSIBLE = 100.0  # log-odds of what a guide rules out


def regions(image: np.ndarray, raw: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """Foreground regions of a picture.

    Args:
        image: ``(H, W, 3)`` ``uint8``.
        raw: ``(h, w)`` ``float32`` in [0, 1], the model's alpha.
        outside: ``(H, W)`` booleans: where there is background for certain.

    Returns:
        ``(h', w')`` ``float32`` in [0, 1], mostly 0 and 1, of about AREA pixels and the picture's proportions.
    """
    size = _size(image.shape[1], image.shape[0])
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), np.float32) / 255
    place = PLACE * _log_odds(resized_plane(gaussian_filter(raw, BLUR), size, Image.Resampling.BICUBIC).clip(0, 1))
    answer = resized_plane(raw, size, Image.Resampling.BICUBIC).clip(0, 1)
    if outside is not None:
        ruled_out = resized_plane(outside.astype(np.float32), size, Image.Resampling.BOX) > 0.99
        place[ruled_out] = -IMPOSSIBLE
        answer[ruled_out] = 0
    bins = _bins(small)
    across, down = _crossing_costs(small)
    for _ in range(ROUNDS):
        answer = _least(EVIDENCE * (_colour_odds(bins, answer) + place), across, down, answer)
    return answer


def decided(answer: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """What `regions` says for certain, at full size.

    Args:
        answer: ``(h', w')`` in [0, 1].
        size: Width and height of the result.

    Returns:
        Foreground and background, ``(H, W)`` booleans; neither where contours run or the answer is between.
    """
    front, back = minimum_filter(answer, BAND) > 1 - DECIDED, maximum_filter(answer, BAND) < DECIDED
    full_front, full_back = (
        resized_plane(plane.astype(np.float32), size, Image.Resampling.BILINEAR) > 0.5 for plane in (front, back)
    )
    return full_front, full_back


def _size(width: int, height: int) -> Size:
    factor = min(1.0, (AREA / (width * height)) ** 0.5)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _log_odds(p: np.ndarray) -> np.ndarray:
    """Log of p over 1 − p, between −MOST_PLACE and MOST_PLACE."""
    least = 1 / (1 + np.exp(np.float32(MOST_PLACE)))
    p = least + (1 - 2 * least) * p
    result: np.ndarray = np.log(p / (1 - p))
    return result


def _bins(image: np.ndarray) -> np.ndarray:
    """Number of each pixel's bin of colour: brightness and two differences of channels."""
    red, green, blue = np.moveaxis(image, -1, 0)
    axes = (image.mean(axis=-1), (1 + red - green) / 2, (1 + (red + green) / 2 - blue) / 2)
    numbers = [np.minimum((axis * COLOURS).astype(np.int64), COLOURS - 1) for axis in axes]
    return np.ravel_multi_index(numbers, (COLOURS,) * 3)


def _colour_odds(bins: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """L of every pixel, between −MOST_COLOUR and MOST_COLOUR."""

    def frequencies(weight: np.ndarray) -> np.ndarray:
        counts = np.bincount(bins.ravel(), weight.ravel(), COLOURS**3).reshape((COLOURS,) * 3)
        counts = gaussian_filter(counts, SPREAD, mode="constant") / (weight.sum() + 1)
        return np.log(counts + UNSEEN / COLOURS**3)

    odds = (frequencies(answer) - frequencies(1 - answer)).clip(-MOST_COLOUR, MOST_COLOUR)
    return odds.ravel()[bins].astype(np.float32)


def _crossing_costs(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Costs w between each pixel and the next across and the next below: small where colours change more than usual."""
    squares = [
        (np.diff(image, axis=axis, append=image.take([-1], axis)) ** 2).sum(axis=-1, dtype=np.float32)
        for axis in (1, 0)
    ]
    usual = np.float32(np.mean(squares) + 1e-6)
    across, down = (CROSSING + (1 - CROSSING) * np.exp(-square / usual) for square in squares)
    return across, down


def _least(odds: np.ndarray, across: np.ndarray, down: np.ndarray, start: np.ndarray) -> np.ndarray:
    """STEPS towards the minimum of Σ across·|∂x u| + down·|∂y u| − odds·u."""
    answer, ahead = start, start
    flow_across, flow_down, step_across, step_down = np.zeros((4, *odds.shape), np.float32)
    for _ in range(STEPS):
        np.subtract(ahead[:, 1:], ahead[:, :-1], out=step_across[:, :-1])
        np.subtract(ahead[1:], ahead[:-1], out=step_down[:-1])
        flow_across = (flow_across + STEP * step_across).clip(-across, across)
        flow_down = (flow_down + STEP * step_down).clip(-down, down)
        inflow = flow_across + flow_down + odds
        inflow[:, 1:] -= flow_across[:, :-1]
        inflow[1:] -= flow_down[:-1]
        before, answer = answer, (answer + STEP * inflow).clip(0, 1)
        ahead = 2 * answer - before
    return answer
