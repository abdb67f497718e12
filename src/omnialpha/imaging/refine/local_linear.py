"""The local linear model behind guided filters and closed-form matting: in every small window alpha is a·I + b.

In a window ω_k of a picture I the regression of p on the colours is, with ε keeping flat windows solvable,

    a_k = (Σ_k + ε·1)⁻¹ cov_k(I, p)        b_k = mean_k(p) − a_k·mean_k(I)

Averaging the windows over each pixel i gives the guided filter, q_i = ā_i·I_i + b̄_i (He, Sun, Tang, "Guided Image
Filtering", 2010). The matting Laplacian of Levin et al. ("A Closed-Form Solution to Natural Image Matting", 2008) is
the same sum, so that without any matrix  L p = |ω|·(p − q)  (He, Sun, Tang, "Fast Matting Using Large Kernel Matting
Laplacian Matrices", 2010).
"""

import numpy as np
from scipy.ndimage import uniform_filter


class LocalLinear:
    """Windows over one picture, ready to be fitted to many alphas.

    Args:
        image: ``(H, W, 3)`` ``float32`` in [0, 1].
        radius: Of the square windows, pixels.
        epsilon: ε, the variance of colour below which a window is taken to be flat.
    """

    def __init__(self, image: np.ndarray, radius: int, epsilon: float) -> None:
        self._side = 2 * radius + 1
        self._channels = [np.ascontiguousarray(image[..., k]) for k in range(3)]
        self._means = [self._mean(channel) for channel in self._channels]
        pairs = {(i, j): self._covariance(i, self._channels[j], self._means[j]) for i in range(3) for j in range(i, 3)}
        for i in range(3):
            pairs[i, i] += np.float32(epsilon)
        self._inverse = _inverse(pairs)

    def fit(self, p: np.ndarray) -> list[np.ndarray]:
        """The windows' answers, averaged over each pixel: [ā of red, green, blue, b̄], each ``(H, W)``."""
        mean = self._mean(p)
        covariances = [self._covariance(i, p, mean) for i in range(3)]
        a = [sum(self._inverse[min(i, j), max(i, j)] * covariances[j] for j in range(3)) for i in range(3)]
        b = mean - sum(a[i] * self._means[i] for i in range(3))
        return [self._mean(plane) for plane in (*a, b)]

    def filter(self, p: np.ndarray) -> np.ndarray:
        """The guided filter of ``p`` ``(H, W)``."""
        return applied(self.fit(p), self._channels)

    def _mean(self, plane: np.ndarray) -> np.ndarray:
        mean: np.ndarray = uniform_filter(plane, self._side, mode="reflect")
        return mean

    def _covariance(self, i: int, p: np.ndarray, mean: np.ndarray) -> np.ndarray:
        return self._mean(self._channels[i] * p) - self._means[i] * mean


def applied(coefficients: list[np.ndarray], channels: list[np.ndarray]) -> np.ndarray:
    """ā·I + b̄ for the coefficients of ``LocalLinear.fit`` and the picture's three channels."""
    result = coefficients[3].copy()
    for a, channel in zip(coefficients, channels, strict=False):
        result += a * channel
    return result


def _inverse(s: dict[tuple[int, int], np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
    """Upper triangle of the inverses of symmetric 3 × 3 matrices, by cofactors, in the precision of ``s``.

    Colours on a line, as in a grey picture, leave a determinant of ε²·σ²: single precision loses it in rounding.
    """
    precision = s[0, 0].dtype
    s = {key: plane.astype(np.float64) for key, plane in s.items()}
    cofactors = {
        (0, 0): s[1, 1] * s[2, 2] - s[1, 2] ** 2,
        (0, 1): s[0, 2] * s[1, 2] - s[0, 1] * s[2, 2],
        (0, 2): s[0, 1] * s[1, 2] - s[0, 2] * s[1, 1],
        (1, 1): s[0, 0] * s[2, 2] - s[0, 2] ** 2,
        (1, 2): s[0, 1] * s[0, 2] - s[0, 0] * s[1, 2],
        (2, 2): s[0, 0] * s[1, 1] - s[0, 1] ** 2,
    }
    determinant = s[0, 0] * cofactors[0, 0] + s[0, 1] * cofactors[0, 1] + s[0, 2] * cofactors[0, 2]
    return {key: (value / determinant).astype(precision) for key, value in cofactors.items()}
