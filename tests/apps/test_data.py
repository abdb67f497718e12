"""`omnialpha data`: from a folder of cut-outs to a published data set with one command, and each step by itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from corpus import make_corpus
from omnialpha.alphalayers.score import score
from omnialpha.apps.cli import app
from omnialpha.data.manifest import read_manifest
from omnialpha.data.scenes import Corpus
from omnialpha.imaging.masks import precise_mask
from omnialpha.imaging.rgba import read_array


def cli(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "corpora", cutouts=20, backdrops=6)


@pytest.fixture(scope="module")
def built(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty samples of a corpus, as CI builds them."""
    out = tmp_path_factory.mktemp("built") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        report = json.loads(cli("build", corpora, out, "--distance", -1, "--least-extent", 16, "--json"))
    assert report == {"entries": 20, "kept": 20, "test": 2, "dropped": {}, "failed": 0}
    return out


def test_a_corpus_becomes_a_published_data_set_over_its_own_photographs(corpora: Path, built: Path) -> None:
    samples = read_manifest(built / "manifest.jsonl")
    scenes = {backdrop.caption for split in ("train", "test") for backdrop in Corpus(corpora, split).backdrops}
    assert {sample.background_caption for sample in samples} <= scenes
    assert {sample.captions[0] for sample in samples} == {f"a foreground {number}" for number in range(20)}
    assert {file.suffix for file in (built / "published" / "data").iterdir()} == {".parquet"}
    # What the recomposite lacks of the composite is the shadow alone.
    assert all(sample.score is not None and sample.score < 0.05 for sample in samples)


def test_status_counts_every_stage(built: Path) -> None:
    lines = cli("status", built).splitlines()
    assert [line.split()[0] for line in lines] == [
        "stage", "collect", "measure", "filter", "caption", "imagine", "instruct", "edit", "remove",
        "caption_background", "score", "rank", "masks",
    ]  # fmt: skip
    assert all(line.split()[1:] == ["20", "0", "0", "0"] for line in lines[1:])
    passes = json.loads(cli("status", built, "--json"))
    assert {each["done"] for each in passes} == {20}
    assert "nothing was built there" in cli("status", built / "masks", code=2)


def test_a_config_file_gives_options_and_the_command_line_wins(corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('keep = 3\ntest = 1\nlimit = 5\ndistance = -1\nremover = "opencv:telea"\n')
    out = tmp_path / "out"
    report = json.loads(
        cli("build", corpora, out, "--config", tmp_path / "plan.toml", "--keep", 2, "--no-publish", "--json",
            "--least-extent", 16)
    )  # fmt: skip
    assert (report["entries"], report["kept"], report["test"]) == (5, 2, 1)
    assert not (out / "published").exists()
    assert json.loads((out / "build.json").read_text())["backends"]["remover"]["name"] == "opencv:telea"


def test_a_plain_folder_of_cutouts_is_enough(corpora: Path, tmp_path: Path) -> None:
    source = tmp_path / "cutouts"
    source.mkdir()
    for number, name in enumerate(("red-kite", "grey_dog")):
        shutil.copy(corpora / "foregrounds" / f"{number}.png", source / f"{name}.png")
    out = cli("build", source, tmp_path / "out", "--least-extent", 16)
    assert "2 triplets of 2 entries" in out
    captions = {sample.captions[0] for sample in read_manifest(tmp_path / "out" / "manifest.jsonl")}
    assert captions == {"red kite", "grey dog"}

    small = cli("build", source, tmp_path / "small", "--least-extent", 4000, code=2)
    assert "nothing is left of 2 entries" in small
    assert "too small" in small


def test_scores_of_files_and_of_a_manifest(built: Path, tmp_path: Path) -> None:
    sample = read_manifest(built / "manifest.jsonl")[0]
    files = (sample.foregrounds[0], sample.background, sample.composite)
    expected = score(*(read_array(file) for file in files if file is not None))
    (alone,) = json.loads(cli("score", *files, "--json"))
    assert alone["score"] == pytest.approx(expected.total, abs=1e-12)
    assert alone["recomposite_error"] == pytest.approx(expected.recomposite, abs=1e-12)

    lines = (built / "manifest.jsonl").read_text().splitlines()
    unscored = [{key: value for key, value in json.loads(line).items() if key != "score"} for line in lines]
    shutil.copytree(built / "pictures", tmp_path / "pictures")
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in unscored))
    table = cli("score", tmp_path / "manifest.jsonl", "-o", tmp_path / "scored.jsonl").splitlines()
    assert len(table) == 20
    found = {each.id: each.score for each in read_manifest(tmp_path / "scored.jsonl")}
    assert found == {each.id: each.score for each in read_manifest(built / "manifest.jsonl")}
    assert "give a manifest" in cli("score", *files[:2], code=2)


def test_masks_of_a_folder(corpora: Path, tmp_path: Path) -> None:
    folders = cli("masks", corpora / "foregrounds", "-o", tmp_path / "masks").splitlines()
    assert len(folders) == 20
    alpha = np.asarray(Image.open(corpora / "foregrounds" / "3.png").getchannel("A"))
    with Image.open(tmp_path / "masks" / "3" / "precise.png") as precise:
        assert np.array_equal(np.asarray(precise), precise_mask(alpha))


def test_split_keeps_equal_foregrounds_together(built: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (built / "manifest.jsonl").read_text().splitlines()][:4]
    shutil.copytree(built / "pictures", tmp_path / "pictures")
    records = []
    for line in lines:
        line.pop("identity")
        records += [line, {**line, "id": f"{line['id']}-again"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "6 train, 2 test" in cli("split", tmp_path / "m.jsonl", "--test", 3, "-o", tmp_path / "n.jsonl")
    sides = {sample.id: sample.split for sample in read_manifest(tmp_path / "n.jsonl")}
    assert all(sides[name] == sides[f"{name}-again"] for name in sides if not name.endswith("-again"))
    assert sorted(sides.values()).count("test") == 2


def test_sources_and_held_out_objects(corpora: Path, tmp_path: Path) -> None:
    layouts = json.loads(cli("sources", "--json"))
    named = {"adobe", "am2k", "distinctions646", "hhm2k", "human1k", "p3m500np", "photomatte85", "rwp636", "simd",
             "transparent460", "prismlayers"}  # fmt: skip
    assert named <= set(layouts)
    assert layouts["aim500"] in cli("sources")
    found = json.loads(cli("heldout", corpora, "--json"))
    assert found["scenes"] == {"background 2": 1, "background 5": 1}
    assert set(found["objects"]) == {f"foreground {number}" for number in (2, 5, 8, 11, 14, 17)}
    assert "objects: 6" in cli("heldout", corpora)
    assert "index.jsonl" in cli("heldout", tmp_path, code=2)
