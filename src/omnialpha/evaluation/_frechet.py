"""The Fréchet distance of two Gaussians, and the mean and covariance of features gathered batch by batch."""

from typing import Any

import numpy as np

from omnialpha.errors import InputError


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½), lower is better (Dowson and Landau 1982; Heusel et al., NeurIPS 2017).

    tr (Σ₁Σ₂)^½ is the sum of the singular values of Σ₁^½ Σ₂^½, whose factors come from symmetric eigen-decompositions:
    no matrix root of a non-symmetric product, hence no complex numbers and no offset for singular covariances.

    Args:
        mu1: ``(D,)`` mean; a number for one dimension.
        sigma1: ``(D, D)`` covariance; a number (the variance) for one dimension.
        mu2: Likewise.
        sigma2: Likewise.

    Returns:
        The squared distance, at least 0; all in double precision.

    Raises:
        InputError: Shapes do not fit, a value is not finite, or a matrix is no covariance.

    >>> frechet_distance(np.array([0.0]), np.array([[4.0]]), np.array([3.0]), np.array([[1.0]]))
    10.0
    """
    mean1, root1, trace1 = _gaussian(mu1, sigma1, "first")
    mean2, root2, trace2 = _gaussian(mu2, sigma2, "second")
    if mean1.shape != mean2.shape:
        raise InputError(
            f"the features have {mean1.size} and {mean2.size} dimensions; use one extractor for both sides"
        )
    shared = float(np.linalg.svd(root1.T @ root2, compute_uv=False).sum())
    distance = float(np.square(mean1 - mean2).sum()) + trace1 + trace2 - 2 * shared
    return max(distance, 0.0)  # rounding can take equal Gaussians a hair below


def _gaussian(mu: np.ndarray, sigma: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Checked mean, R with R·Rᵀ = Σ, and tr Σ."""
    mean = np.atleast_1d(np.asarray(mu, np.float64))
    covariance = np.atleast_2d(np.asarray(sigma, np.float64))
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise InputError(
            f"the {name} mean {mean.shape} wants a ({mean.size}, {mean.size}) covariance, not {covariance.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f"the {name} mean or covariance holds NaN or infinity; a covariance needs two samples or more")
    scale = float(np.abs(covariance).max())
    if np.abs(covariance - covariance.T).max() > 1e-6 * scale:
        raise InputError(f"the {name} covariance is not symmetric; compute it with numpy.cov or FeatureStatistics")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -1e-6 * scale:
        raise InputError(f"the {name} covariance has the negative eigenvalue {values[0]:g}; compute it in float64")
    # What is left of a zero eigenvalue after rounding would enter as its root, a hundred million times larger.
    noise = mean.size * np.finfo(np.float64).eps * values[-1]
    root = vectors * np.sqrt(np.where(values > noise, values, 0))
    return mean, root, float(np.trace(covariance))


class FeatureStatistics:
    """Mean and unbiased covariance of features in one pass, in double precision, mergeable across processes.

    Batches are combined by the update of Chan, Golub and LeVeque (1983), which does not lose digits to large means.

    >>> statistics = FeatureStatistics()
    >>> statistics.update(np.array([[0.0, 0.0], [2.0, 0.0]]))
    >>> statistics.update(np.array([[4.0, 3.0]]))
    >>> statistics.count, statistics.mean.tolist(), statistics.covariance.tolist()
    (3, [2.0, 1.0], [[4.0, 3.0], [3.0, 3.0]])
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def update(self, features: np.ndarray) -> None:
        """Add a batch.

        Args:
            features: ``(N, D)``.

        Raises:
            InputError: Another shape, another D than before, or values that are not finite.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] == 0:
            raise InputError(f"features have shape (N, D), not {features.shape}; flatten each sample's features")
        if not np.isfinite(features).all():
            raise InputError("features hold NaN or infinity; check the images and the extractor")
        if len(features):
            mean = features.mean(axis=0)
            centred = features - mean
            self._combine(len(features), mean, centred.T @ centred)

    def merge(self, other: "FeatureStatistics") -> None:
        """Add all that another accumulator has seen.

        Args:
            other: Statistics of the same extractor; left as they are.

        Raises:
            InputError: Its features have another dimension.
        """
        if other.count:
            self._combine(other.count, other._mean, other._scatter)

    @property
    def mean(self) -> np.ndarray:
        """``(D,)``."""
        self._need(1)
        return self._mean.copy()

    @property
    def covariance(self) -> np.ndarray:
        """``(D, D)``, divided by the number of samples minus one."""
        self._need(2)
        return self._scatter / (self.count - 1)

    def distance(self, other: "FeatureStatistics") -> float:
        """Fréchet distance to other features.

        Args:
            other: Statistics of the same extractor over other images.

        Returns:
            As `frechet_distance`.
        """
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def to_dict(self) -> dict[str, Any]:
        """All of the state, as arrays; `numpy.savez` keeps it."""
        return {"count": self.count, "mean": self._mean, "scatter": self._scatter}

    @classmethod
    def from_dict(cls, state: Any) -> "FeatureStatistics":
        """Take up a state again.

        Args:
            state: What `to_dict` returned, or the file in which `numpy.savez` kept it.

        Returns:
            Statistics that go on from there.
        """
        statistics = cls()
        statistics.count = int(state["count"])
        statistics._mean, statistics._scatter = np.array(state["mean"]), np.array(state["scatter"])
        return statistics

    def _combine(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self.count == 0:
            self.count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        if mean.shape != self._mean.shape:
            raise InputError(f"features of {mean.size} dimensions meet {self._mean.size}; use one extractor for all")
        total = self.count + count
        step = mean - self._mean
        self._scatter = self._scatter + scatter + np.outer(step, step) * (self.count * count / total)
        self._mean = self._mean + step * (count / total)
        self.count = total

    def _need(self, least: int) -> None:
        if self.count < least:
            raise InputError(
                f"{self.count} samples are too few, at least {least} are needed; update with features first"
            )
