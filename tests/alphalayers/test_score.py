"""Eq. 9–12 against sums written out, the choice of the best, and the split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnialpha.alphalayers.score import Score, keep_best, score, split
from omnialpha.errors import InputError


def triplet(seed=0, shape=(5, 6)):
    rng = np.random.default_rng(seed)
    foreground = rng.random((*shape, 4))
    foreground[0, :, 3] = 0.05  # exactly the threshold: outside of Ω
    return foreground, rng.random((*shape, 3)), rng.random((*shape, 3))


def test_both_errors_are_the_papers_sums():
    foreground, background, composite = triplet()
    inside, everywhere = [], []
    for y in range(5):
        for x in range(6):
            *colour, alpha = foreground[y, x]
            if alpha > 0.05:
                inside.append(sum((colour[c] * alpha - composite[y, x, c] * alpha) ** 2 for c in range(3)))
            again = [colour[c] * alpha + background[y, x, c] * (1 - alpha) for c in range(3)]
            everywhere.append(sum((again[c] - composite[y, x, c]) ** 2 for c in range(3)))
    found = score(foreground, background, composite)
    assert found.foreground == pytest.approx(np.mean(inside), rel=1e-12)
    assert found.recomposite == pytest.approx(np.mean(everywhere), rel=1e-12)
    assert found.total == pytest.approx(0.6 * np.mean(inside) + 0.4 * np.mean(everywhere), rel=1e-12)


def test_an_exact_composite_of_opaque_layers_scores_zero():
    foreground, background, _ = triplet()
    foreground[..., 3] = foreground[..., 3] > 0.5
    composite = foreground[..., :3] * foreground[..., 3:] + background * (1 - foreground[..., 3:])
    assert score(foreground, background, composite).total == pytest.approx(0, abs=1e-15)


def test_a_fourth_channel_of_background_and_composite_is_ignored():
    foreground, background, composite = triplet()
    opaque = [np.dstack([image, np.ones(image.shape[:2])]) for image in (background, composite)]
    assert score(foreground, *opaque) == score(foreground, background, composite)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, b, c: (f[..., :3], b, c), r"the foreground has shape \(H, W, 4\), not \(5, 6, 3\)"),
        (lambda f, b, c: (f, b[:-1], c), r"the background has shape \(4, 6, 3\)"),
        (lambda f, b, c: (f, b, c * 255), r"the composite lies in \[0, 1\]"),
        (lambda f, b, c: (f, b * np.nan, c), r"the background lies in \[0, 1\], not \[nan"),
        (lambda f, b, c: (f * [1, 1, 1, 0.05], b, c), "nowhere more opaque than 0.05"),
    ],
)
def test_triplets_that_cannot_be_scored_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        score(*change(*triplet()))


@given(st.dictionaries(st.text(max_size=3), st.sampled_from([0.1, 0.2, 0.3])), st.integers(0, 8), st.randoms())
def test_the_best_do_not_depend_on_the_order(scores, count, random):
    kept = keep_best(scores, count)
    shuffled = list(scores.items())
    random.shuffle(shuffled)
    assert kept == keep_best(dict(shuffled), count)
    assert len(kept) == min(count, len(scores))
    dropped = set(scores) - set(kept)
    assert all((scores[good], good) < (scores[bad], bad) for good in kept for bad in dropped)


def test_scores_that_are_no_numbers_are_named():
    with pytest.raises(InputError, match="1 scores are not numbers, the first is that of b"):
        keep_best({"a": 0.1, "b": float("nan")}, 1)
    assert keep_best({"a": Score(foreground=1, recomposite=0).total}, 5) == ["a"]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.data())
def test_no_identity_is_on_both_sides(identities, data):
    samples = {str(number): identity for number, identity in enumerate(identities)}
    wanted = data.draw(st.integers(0, len(samples)))
    sides = split(samples, wanted)
    assert list(sides) == list(samples)
    assert len({(samples[sample], side) for sample, side in sides.items()}) == len(set(identities))
    held_out = sum(side == "test" for side in sides.values())
    assert held_out <= wanted
    left = [identities.count(identity) for identity in {samples[s] for s in sides if sides[s] == "train"}]
    assert all(held_out + size > wanted for size in left)  # nothing more would have fitted


def test_single_identities_give_the_papers_numbers():
    sides = split({f"{number:04d}": f"object {number}" for number in range(1000)}, 100)
    assert sum(side == "test" for side in sides.values()) == 100
    assert sides == split({f"{number:04d}": f"object {number}" for number in range(1000)}, 100)
    with pytest.raises(InputError, match="5 of 2 samples cannot be held out"):
        split({"a": "x", "b": "y"}, 5)
