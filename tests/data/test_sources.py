"""Readers of public data sets: every layout, and what they say about trees that do not fit."""

import json
import logging
import shutil
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import corpus
import trees
from omnialpha.data.sources import SOURCES, Cell, read_alpha, read_cutouts, read_layers, read_mask, read_source, stream
from omnialpha.errors import ImageError, InputError, MissingExtraError
from omnialpha.imaging import rgba

EXPECTED: dict[str, tuple[Any, dict[str, list[str]]]] = {
    "adobe": (trees.make_adobe, {"train": ["adobe-licensed-images-boy", "adobe-licensed-images-cat", "other-boy"],
                                 "test": ["adobe-licensed-images-net"]}),
    "aim500": (trees.make_aim500, {"test": ["o_01", "o_02"]}),
    "am2k": (trees.make_am2k, {"train": ["m_1", "m_2"], "validation": ["m_9"]}),
    "corpus": (corpus.make_corpus, {"train": ["foreground 0", "foreground 1", "foreground 3", "foreground 4"],
                             "test": ["foreground 2", "foreground 5"]}),
    "crello": (trees.make_crello, {"test": ["design0", "design1"]}),
    "distinctions646": (trees.make_distinctions646, {"train": ["a", "b"], "test": ["c"]}),
    "folder": (trees.make_folder, {"all": ["one", "two"]}),
    "hhm2k": (trees.make_folder, {"all": ["one", "two"]}),
    "human1k": (trees.make_cutouts, {"all": ["ball", "disk"]}),
    "ober": (trees.make_ober, {"train": ["OBER-Test-0000_0"],
                               "test": ["OBER-Test-0001_0", "OBER-Test-0002_0", "OBER-Wild-0003_0"]}),
    "p3m500np": (trees.make_p3m500np, {"validation": ["p_1", "p_2"]}),
    "photomatte85": (trees.make_photomatte85, {"test": ["000", "001"]}),
    "prismlayers": (trees.make_prismlayers, {"toy": ["toy-00000-of-00001-00000", "toy-00000-of-00001-00001"]}),
    "refmatte_rw100": (trees.make_refmatte_rw100, {"test": ["p_1_0", "p_1_1", "p_2_0"]}),
    "rord": (trees.make_rord, {"test": ["0000", "0001", "0002"]}),
    "rwp636": (trees.make_rwp636, {"test": ["w1", "w2"]}),
    "simd": (trees.make_simd, {"test": ["glass-ball-x", "fire-x"]}),
    "transparent460": (trees.make_transparent460, {"train": ["t1", "t2"], "test": ["t3"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_every_layout_is_read(name, tmp_path):
    make, expected = EXPECTED[name]
    records = read_source(name, make(tmp_path))
    found: dict[str, list[str]] = {}
    for record in records:
        assert record.source == name
        found.setdefault(record.split, []).append(record.id)
    assert found == expected
    for split, ids in expected.items():
        assert [record.id for record in read_source(name, tmp_path, split)] == ids
    for record in records:
        pictures = (record.composite, record.foreground, record.alpha, record.trimap, record.mask, record.background)
        for picture in (*pictures, *record.layers):
            assert picture is None or rgba.read(stream(picture)).width > 0


@pytest.mark.parametrize("name", SOURCES)
def test_an_empty_folder_says_what_was_expected_and_found(name, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.md").touch()
    with pytest.raises(InputError, match=r": \w+ needs .+; found notes\.md, photos/; give the folder") as error:
        read_source(name, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="found no such folder"):
        read_source(name, tmp_path / "absent")


def test_an_unknown_source_or_split_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match='did you mean "aim500"'):
        read_source("aim50", tmp_path)
    with pytest.raises(InputError, match='no split "val" here; there is train, validation'):
        read_source("am2k", trees.make_am2k(tmp_path), "val")


def test_one_missing_folder_is_named_with_the_others(tmp_path):
    shutil.rmtree(trees.make_aim500(tmp_path) / "mask")
    with pytest.raises(InputError, match="needs original/ and mask/; found original/, trimap/"):
        read_source("aim500", tmp_path)


def test_a_missing_mask_is_an_error_a_missing_trimap_a_warning(tmp_path, caplog):
    root = trees.make_aim500(tmp_path)
    (root / "trimap/o_01.png").unlink()
    records = read_source("aim500", root)
    assert [record.trimap is None for record in records] == [True, False]
    assert "1 of 2 pictures in original/ have none in trimap/ (o_01)" in caplog.text
    (root / "mask/o_02.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 pictures in original/ have none in mask/ \(o_02\)"):
        read_source("aim500", root)


def test_stray_files_are_reported_and_left_out(tmp_path, caplog):
    root = trees.make_aim500(tmp_path)
    for name in ("original/Thumbs.db", "original/.hidden", "mask/o_99.png"):
        (root / name).write_bytes(b"x")
    assert [record.id for record in read_source("aim500", root)] == ["o_01", "o_02"]
    assert "1 files are no pictures and are left out (Thumbs.db)" in caplog.text
    assert "1 pictures in mask/ belong to none in original/ (o_99)" in caplog.text


def test_two_pictures_with_one_name_are_refused(tmp_path):
    root = trees.make_aim500(tmp_path)
    shutil.copy(root / "original/o_01.jpg", root / "original/o_01.jpeg")
    with pytest.raises(InputError, match='two pictures are called "o_01"'):
        read_source("aim500", root)


def test_releases_with_and_without_the_enclosing_folder_are_read(tmp_path):
    for base in (".", "validation", "P3M-500-NP"):
        root = trees.make_p3m500np(tmp_path / f"release {base}", base)
        assert len(read_source("p3m500np", root)) == 2


def test_the_generic_reader_knows_usual_names_captions_and_splits(tmp_path):
    trees.make_folder(tmp_path / "train", images="fg", alphas="masks")
    trees.make_cutouts(tmp_path / "test")
    records = {(record.split, record.id): record for record in read_source("folder", tmp_path)}
    assert records["train", "one"].foreground == tmp_path / "train/fg/one.jpg"
    assert records["train", "one"].composite is None
    assert records["test", "ball"].captions == ("a glass ball",)
    assert records["test", "disk"].captions == ()
    shutil.rmtree(tmp_path / "train/masks")
    with pytest.raises(InputError, match="needs alpha/ beside them; found fg/"):
        read_source("folder", tmp_path)


def test_rgb_and_alpha_are_joined(tmp_path):
    records = read_source("distinctions646", trees.make_distinctions646(tmp_path), "train")
    [(image, caption)] = read_cutouts(records[1])
    assert (image.shape, image.dtype, caption) == ((trees.HEIGHT, trees.WIDTH, 4), np.float32, "")
    np.testing.assert_allclose(image, np.dstack([trees.colours(1), trees.soft_disk(1)]), atol=0.5 / 255 + 1e-6)


def test_colours_of_a_composite_are_freed_of_the_background(tmp_path):
    trees.save(trees.composite(), tmp_path / "image/a.png")
    trees.save(trees.soft_disk(), tmp_path / "alpha/a.png")
    [record] = read_source("rwp636", tmp_path)
    true, alpha = trees.colours(), trees.soft_disk()
    rim = (alpha > 0.05) & (alpha < 0.95)

    def error(**options):
        [(image, _)] = read_cutouts(record, **options)
        return np.abs(image[..., :3] - true)[rim].mean()

    assert error() < 0.4 * error(decontaminate=False)


def test_colours_and_alpha_of_different_sizes_are_refused(tmp_path):
    root = trees.make_distinctions646(tmp_path)
    trees.save(trees.soft_disk()[:-1], root / "Test/GT/c.png")
    [record] = read_source("distinctions646", root, "test")
    with pytest.raises(ImageError, match=r"c\.png: has 24×19 pixels, but .*FG.c\.png has 24×20"):
        read_cutouts(record)


def test_a_record_without_a_foreground_has_no_cutout(tmp_path):
    record = read_source("rord", trees.make_rord(tmp_path))[0]
    with pytest.raises(InputError, match="rord/0000: has no foreground"):
        read_cutouts(record)


def test_sixteen_bit_mattes_keep_their_precision(tmp_path):
    alpha = np.linspace(0, 65535, trees.HEIGHT * trees.WIDTH).astype(np.uint16).reshape(trees.HEIGHT, trees.WIDTH)
    found, note = read_alpha(trees.save(alpha, tmp_path / "a.png"))
    assert note == ""
    np.testing.assert_array_equal(np.rint(found * 65535), alpha)


def test_the_first_of_several_channels_counts_and_is_reported(tmp_path, caplog):
    found, note = read_alpha(trees.save_multichannel(trees.soft_disk(), tmp_path / "a.png"))
    np.testing.assert_allclose(found, trees.soft_disk(), atol=0.5 / 255 + 1e-6)
    assert note == "its channels differ, the first one is used"
    assert f"a.png: {note}" in caplog.text
    _, note = read_alpha(trees.save(trees.cutout(), tmp_path / "b.png"))
    assert "transparent in places, which is ignored" in note


@pytest.mark.parametrize("inverted", [False, True])
def test_the_polarity_of_rord_is_found_and_logged(inverted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    records = read_source("rord", trees.make_rord(tmp_path, inverted=inverted))
    assert {record.mask_inverted for record in records} == {inverted}
    assert f"the object is {'black' if inverted else 'white'} in RORD's masks (so in 3 of 3" in caplog.text
    np.testing.assert_array_equal(read_mask(records[1]), trees.soft_disk(1) >= 0.5)


def test_one_odd_mask_does_not_turn_the_others_and_is_warned_of(tmp_path, caplog):
    root = trees.make_rord(tmp_path)
    path = root / "test/mask/0001.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert not any(record.mask_inverted for record in read_source("rord", root))
    assert [r.levelname for r in caplog.records if "so in 2 of 3" in r.message] == ["WARNING"]


def test_refmatte_has_four_expressions_and_the_official_choice(tmp_path, caplog):
    root = trees.make_refmatte_rw100(tmp_path)
    first, second, third = read_source("refmatte_rw100", root)
    assert first.captions == tuple(f"p_1 0 wording {k}" for k in range(4))
    assert (first.composite, second.composite) == (root / "image/p_1.jpg",) * 2
    assert (second.alpha, second.official_caption) == (root / "mask/p_1_1.png", 2)
    assert third.official_caption == 0
    (root / "eval_index_expression.json").unlink()
    assert read_source("refmatte_rw100", root)[0].official_caption is None
    assert "official choice of expressions is unknown" in caplog.text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("refmatte_rw100_label.json", {"p_1_0": {"image_name": "p_1", "expressions": ["a"]}}, "1 expressions, not 4"),
        ("refmatte_rw100_label.json", {"p_1_0": {"expressions": ["a"]}}, 'no "image_name" or no "expressions"'),
        ("refmatte_rw100_label.json", {"p_7_0": {}}, r"1 of 4 entries .* have no picture in mask/ \(p_7_0\)"),
        ("refmatte_rw100_label.json", {"p_1_0": {"image_name": "q", "expressions": list("abcd")}}, "about q, which"),
        ("eval_index_expression.json", {"p_1": 4}, "has 4 for p_1_0, not a number from 0 to 3"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(file, change, message, tmp_path):
    path = trees.make_refmatte_rw100(tmp_path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_source("refmatte_rw100", tmp_path)


def test_damaged_annotations_are_named(tmp_path):
    (trees.make_refmatte_rw100(tmp_path) / "refmatte_rw100_label.json").write_text("{")
    with pytest.raises(InputError, match=r"refmatte_rw100_label\.json: is no JSON"):
        read_source("refmatte_rw100", tmp_path)


def test_crello_layers_come_back_to_front_without_gaps(tmp_path):
    root = trees.make_crello(tmp_path)
    first, second = (read_layers(record) for record in read_source("crello", root))
    assert (len(first), len(second)) == (3, 2)
    assert first[0][..., 3].min() == 1
    np.testing.assert_allclose(first[2], trees.cutout(2), atol=0.5 / 255 + 1e-6)
    (root / "layers/design0/0001.png").unlink()
    with pytest.raises(InputError, match="design0: crello needs 0000.png, 0001.png, … without gaps; found 0000.png"):
        read_source("crello", root)


def test_layers_of_different_sizes_are_refused(tmp_path):
    root = trees.make_crello(tmp_path)
    trees.save(trees.cutout()[:, :-2], root / "layers/design1/0001.png")
    with pytest.raises(ImageError, match=r"0001\.png: has 22×20 pixels"):
        read_layers(read_source("crello", root)[1])


def test_ober_reads_single_cells_of_a_parquet_file(tmp_path):
    records = {record.id: record for record in read_source("ober", trees.make_ober(tmp_path))}
    record = records["OBER-Test-0002_0"]
    np.testing.assert_array_equal(read_mask(record), trees.soft_disk(2) > 0.5)
    assert isinstance(record.background, Cell)
    found = rgba.read_array(stream(record.background))
    np.testing.assert_allclose(found[..., :3], trees.colours(102), atol=0.5 / 255 + 1e-6)
    wild = records["OBER-Wild-0003_0"]
    assert [key for key, each in records.items() if each.background is None] == [wild.id]
    assert isinstance(wild.mask, Cell)
    with pytest.raises(ImageError, match=r"test-00000-of-00001\.parquet, row 1, gt: holds no picture"):
        stream(replace(wild.mask, column="gt"))


def test_parquet_files_of_another_data_set_are_refused(tmp_path):
    trees.make_prismlayers(tmp_path)
    with pytest.raises(InputError, match=r"ober needs the columns input, gt, .*; found whole_image, whole_caption"):
        read_source("ober", tmp_path)


def test_prismlayers_are_placed_by_their_boxes(tmp_path):
    record, single = read_source("prismlayers", trees.make_prismlayers(tmp_path))
    assert (record.captions, record.background_caption) == (("a disk", "another disk"), "a gradient")
    base, first, second = read_layers(record)
    assert base.shape == (trees.HEIGHT, trees.WIDTH, 4)
    expected = np.zeros_like(base)
    expected[2:16, 3:17] = trees.cutout()[2:16, 3:17]
    np.testing.assert_allclose(first, expected, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(second[10:, 15:], first[2:12, 3:12])  # cut off by the canvas
    assert [caption for _, caption in read_cutouts(record)] == ["a disk", "another disk"]
    assert len(read_layers(single)) == 2


def test_a_layer_is_scaled_to_its_box(tmp_path):
    record = read_source("prismlayers", trees.make_prismlayers(tmp_path))[1]
    halved = replace(record, boxes=(None, (0, 0, 7, 7)))
    _, layer = read_layers(halved)
    assert layer[7:].max() == 0
    assert layer[..., 3].sum() == pytest.approx(trees.cutout()[2:16, 3:17, 3].sum() / 4, rel=0.05)


def test_parquet_needs_its_extra(tmp_path, monkeypatch):
    root = trees.make_ober(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"omnialpha\[parquet\]"):
        read_source("ober", root)


def test_listing_opens_no_picture(tmp_path):
    root = trees.make_am2k(tmp_path)
    for path in root.rglob("*.*"):
        path.write_bytes(b"")
    assert len(read_source("am2k", root)) == 3
