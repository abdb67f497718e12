"""Packed corpora serve training as the folder does, at a smaller size."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from corpus import make_corpus
from omnialpha.data.pack import main, pack
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.errors import InputError


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("pack") / "corpora")


def unpacked(corpora: Path, folder: Path, **options: int) -> Path:
    with zipfile.ZipFile(pack(corpora, folder / "corpora.zip", **options)) as archive:
        archive.extractall(folder / "there")
    return folder / "there"


def test_the_index_is_the_same_but_for_paths(corpora: Path, tmp_path: Path) -> None:
    there = unpacked(corpora, tmp_path)
    before, after = (
        [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()] for folder in (corpora, there)
    )
    for old, new in zip(before, after, strict=True):
        assert (there / new.pop("path")).is_file()
        assert {key: value for key, value in old.items() if key != "path"} == new


def test_scenes_drawn_from_it_look_the_same(corpora: Path, tmp_path: Path) -> None:
    there = unpacked(corpora, tmp_path)
    for seed in range(3):
        here, carried = (
            draw_scene(Corpus(folder, "train"), np.random.default_rng(seed), 32) for folder in (corpora, there)
        )
        assert here.captions == carried.captions
        np.testing.assert_allclose(here.composite, carried.composite, atol=0.1)
        assert np.abs(here.composite - carried.composite).mean() < 0.02
        np.testing.assert_array_equal(here.foregrounds[0][..., 3], carried.foregrounds[0][..., 3])


def test_pictures_are_scaled_down_to_the_size_asked_for_never_up(corpora: Path, tmp_path: Path) -> None:
    small = Corpus(unpacked(corpora, tmp_path, size=20), "train")
    assert {max(cutout.image.size) for cutout in small.cutouts} == {20}
    assert {min(backdrop.image.size) for backdrop in small.backdrops} == {40}
    large = Corpus(unpacked(corpora, tmp_path, size=500), "train")
    assert {max(cutout.image.size) for cutout in large.cutouts} == {64}


def test_a_folder_without_an_index_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no index.jsonl"):
        pack(tmp_path, tmp_path / "out.zip")
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "out.zip")])
    assert "python -m omnialpha.data.corpora" in capsys.readouterr().err
