"""Marks around the pieces of a real call."""

from __future__ import annotations

import itertools

import pytest
from stopwatch import Clock, timed_pieces

import tiny


def test_every_run_of_every_piece_is_marked_and_the_pipeline_is_left_as_it_was() -> None:
    ticks = itertools.count()
    pipe = tiny.pipeline()
    encode = pipe.vae.encode
    with timed_pieces(pipe, Clock(mark=lambda: next(ticks), between=lambda start, end: end - start)) as spans:
        pipe(task="decomposition_auto", images=[tiny.picture()], num_inference_steps=3, true_cfg_scale=2.0, seed=0)
    runs = {name: len(marks) for name, marks in spans.marks.items()}
    assert runs.keys() == {"vlm", "encode", "denoise", "decode"}
    assert runs["denoise"] in (3, 6)  # both branches of guidance at once, or one after the other
    assert runs["encode"] >= 1
    assert spans.seconds() == pytest.approx(runs)  # one tick each
    assert spans.from_first_to_last("denoise") == 2 * runs["denoise"] - 1
    assert pipe.vae.encode == encode
    before = next(ticks)
    pipe(task="matting_auto", images=[tiny.picture()], seed=0)
    assert next(ticks) == before + 1
