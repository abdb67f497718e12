"""Validation scores: perfect predictions, wrong ones, and tasks without one right answer."""

import numpy as np
import pytest

from corpus import make_corpus
from omnialpha.data.groups import corpus_groups
from omnialpha.data.loader import draw_batch
from omnialpha.data.scenes import Corpus
from omnialpha.training.validation import BEST_PSNR, scores


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus(make_corpus(tmp_path_factory.mktemp("corpora") / "c"), "test")


def example(corpus, task):
    return draw_batch(corpus_groups(corpus, {task: (1.0,)}, size=32), seed=0, step=0, batch_size=1)[0]


def test_decomposition_is_scored_by_alpha_and_background(corpus) -> None:
    drawn = example(corpus, "decomposition_auto")
    assert scores(drawn, drawn.targets) == {"decomposition_mad": 0, "decomposition_psnr": BEST_PSNR}
    empty = np.zeros_like(drawn.targets[0])
    wrong = scores(drawn, [empty, np.clip(drawn.targets[1] + 0.1, 0, 1)])
    assert wrong["decomposition_mad"] == pytest.approx(drawn.targets[0][..., 3].mean(), abs=1e-6)
    assert wrong["decomposition_psnr"] == pytest.approx(20, abs=1.5)


def test_tasks_with_many_right_answers_have_no_score(corpus) -> None:
    drawn = example(corpus, "text_to_image")
    assert scores(drawn, drawn.targets) == {}
