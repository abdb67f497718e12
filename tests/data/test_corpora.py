"""The corpora: which files of a package are taken, what is written, and that the split holds."""

import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from omnialpha.data import corpora, readers
from omnialpha.data.cutouts import Rejected, clean_background, clean_cutout, is_blank, is_photographic
from omnialpha.data.naming import object_name, slug, split_of
from omnialpha.errors import InputError, OmniAlphaError

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: images/*
License: CC-BY-SA-4.0

Files: images/land/*
License: public-domain
 Donated.

Files: images/land/*-someone*
License: CC-BY-SA-4.0

Files:
 images/land/mountain1*
 images/land/sea3*
License: public-domain

Files:
 images/land/lava5*
License: CC-BY-SA-4.0
"""


def disk(colour=(200, 40, 40), size=200, seed=None):
    """A disk of coloured patches with a soft edge, another one per colour; with a seed, grain like a photograph's."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.clip(size * 0.35 - np.hypot(x, y), 0, 1)
    patches = Image.fromarray(np.random.default_rng(sum(colour)).integers(60, 256, (4, 4, 3), dtype=np.uint8))
    shade = np.asarray(patches.resize((size, size), Image.Resampling.NEAREST)) / 255 * np.array(colour)
    if seed is not None:
        shade = shade + np.random.default_rng(seed).normal(0, 12, shade.shape)
    pixels = np.dstack([np.clip(shade, 0, 255), alpha * 255]).astype(np.uint8)
    return Image.fromarray(pixels)


def photograph(seed, size=(640, 320)):
    noise = np.random.default_rng(seed).integers(0, 255, (8, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def cache(tmp_path):
    """A cache with one or two files of every kind in each package."""
    root = tmp_path / "cache"
    stamps = root / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    for seed, (key, caption) in enumerate(
        {
            "animals/owl": "An owl.\nfr.utf8=Un hibou.",
            "animals/owl_mirror": "An owl.",
            "symbols/alphabets/a": "The letter a.",
            "space/saturn": "Saturn\u2014the second largest planet.",
        }.items()
    ):
        save(disk(seed=seed, colour=(60 + 40 * seed, 90, 200 - 40 * seed)), stamps / f"{key}.png")
        (stamps / f"{key}.txt").write_text(caption, encoding="utf-8")

    emoji = root / "lobehub-fluent-emoji-3d/package/assets"
    for code, colour in {"1f34e": (220, 0, 0), "1f44b": (250, 200, 0), "1f44b-1f3fb": (250, 220, 180)}.items():
        save(disk(colour), emoji / f"{code}.webp")
    save(disk((0, 0, 250)), emoji / "1f1e6-1f1f7.webp")
    names = root / "emojibase-data/package/en/data.json"
    names.parent.mkdir(parents=True)
    skins = [{"label": "waving hand: light skin tone", "hexcode": "1F44B-1F3FB"}]
    records = [
        {"label": "red apple", "hexcode": "1F34E", "group": 4},
        {"label": "waving hand", "hexcode": "1F44B", "group": 1, "skins": skins},
        {"label": "flag: Argentina", "hexcode": "1F1E6-1F1F7", "group": 9},
    ]
    names.write_text(json.dumps(records))

    furniture = root / "sweethome3d-furniture/usr/share/sweethome3d/furniture"
    furniture.mkdir(parents=True)
    save(disk((200, 130, 40)), tmp_path / "chair.png")
    for library in ("Scopia", "Unread"):
        with zipfile.ZipFile(furniture / f"{library}.sh3f", "w") as archive:
            archive.writestr("PluginFurnitureCatalog.properties", "id=x\nname#1=Chair\nicon#1=/icons/chair.png\n")
            archive.write(tmp_path / "chair.png", "icons/chair.png")

    clipart = root / "openclipart-png/usr/share/openclipart/png"
    save(disk((20, 160, 30)), clipart / "food/fruit/apple_enrique_meza_02.png")
    save(disk((20, 30, 160)), clipart / "food/fruit/abeille_tanguy_01.png")
    save(disk((200, 30, 160)), clipart / "computer/icons/apple.png")

    land = root / "endless-sky-data/usr/share/games/endless-sky/images/land"
    for seed, name in enumerate(("sea3", "canyon01", "canyon02", "mountain10-someone", "lava5")):
        save(photograph(seed), land / f"{name}.jpg")
    legal = root / "endless-sky-data/usr/share/doc/endless-sky-data/copyright"
    legal.parent.mkdir(parents=True)
    legal.write_text(COPYRIGHT)
    save(photograph(9), root / "tuxpaint-data/usr/share/tuxpaint/templates/ocean_waves.jpg")
    return root


def test_prepare_takes_what_it_should_and_nothing_else(cache, tmp_path):
    records = corpora.prepare(cache, tmp_path / "out")

    by_source: dict[object, list[object]] = {}
    for record in records:
        by_source.setdefault(record["source"], []).append(record["caption"])
    assert by_source == {
        "tuxpaint-stamps": ["An owl", "Saturn"],
        "fluent-emoji": ["red apple", "waving hand"],
        "sweethome3d": ["Chair"],
        "openclipart": ["apple"],
        "endless-sky": ["a canyon", "a canyon", "the sea"],
        "tuxpaint-templates": ["ocean waves"],
    }
    licences = {record["source"]: record["licence"] for record in records}
    assert licences["endless-sky"] == "public-domain"
    assert licences["tuxpaint-stamps"] == "GPL-2"
    assert str(licences["sweethome3d"]).startswith("CC-BY-3.0")


def test_index_describes_the_files(cache, tmp_path):
    out = tmp_path / "out"
    records = corpora.prepare(cache, out, size=128)

    assert [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()] == records
    assert len({record["id"] for record in records}) == len(records)
    for record in records:
        image = Image.open(out / record["path"])
        if record["kind"] == "foreground":
            assert image.mode == "RGBA"
            assert max(image.size) <= 128
            pixels = np.asarray(image)
            assert not pixels[pixels[..., 3] == 0].any()
        else:
            assert image.mode == "RGB"
            assert min(image.size) >= 128
    photographic = {record["id"]: record["photographic"] for record in records}
    assert photographic["tuxpaint-stamps/an-owl"]
    assert not photographic["fluent-emoji/red-apple"]
    assert photographic["endless-sky/sea3"]


def test_no_name_is_on_both_sides(cache, tmp_path):
    records = corpora.prepare(cache, tmp_path / "out")
    sides: dict[object, set[object]] = {}
    for record in records:
        sides.setdefault((record["kind"], record["object"]), set()).add(record["split"])
    assert ("foreground", "apple") in sides  # the red emoji and the clip-art apple are one object
    assert sum(record["object"] == "apple" for record in records) == 2
    assert all(len(side) == 1 for side in sides.values())


def test_held_out_pictures_do_not_look_like_training_pictures(cache, tmp_path):
    stamps = cache / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals"
    owl = Image.open(stamps / "owl.png")
    save(owl.resize((150, 150)), stamps / "bee.png")  # another size and name: "bee" would be held out
    (stamps / "bee.txt").write_text("A bee.")
    save(owl.rotate(120).crop((60, 20, 180, 200)), stamps / "banana.png")
    (stamps / "banana.txt").write_text("A banana.")
    assert split_of("owl") == "train"
    assert split_of("bee") == split_of("banana") == "test"
    out = tmp_path / "out"
    captions = [record["caption"] for record in corpora.prepare(cache, out)]
    assert "An owl" in captions
    assert "A banana" in captions
    assert "A bee" not in captions
    assert not list(out.rglob("*bee*"))


def test_prepare_twice_gives_the_same_bytes(cache, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        corpora.prepare(cache, out)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 11
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)


def test_prepare_refuses_a_used_folder_and_an_empty_cache(cache, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        corpora.prepare(cache, tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no .*emojibase-data"):
        corpora.prepare(tmp_path / "nothing", tmp_path / "new")


def test_damaged_file_is_skipped(cache, tmp_path, caplog):
    damaged = cache / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals/owl.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    records = corpora.prepare(cache, tmp_path / "out")
    assert "An owl" not in {record["caption"] for record in records}
    assert "animals/owl cannot be read" in caplog.text


def test_public_domain_needs_every_matching_stanza(cache):
    # DEP-5's last match would put mountain10-someone (claimed CC-BY-SA) in the public domain by "mountain1*".
    taken = [item.key for item in readers.endless_sky(cache / "endless-sky-data")]
    assert taken == ["canyon01", "canyon02", "sea3"]


@pytest.mark.parametrize(
    "variants",
    [
        ("red apple", "A green apple.", "apples", "Half of an apple"),
        ("woman running: dark skin tone", "man running", "person running facing right"),
        ("Chair 2", "chair", "White chair"),
        ("left hand", "right hand", "Hands"),
    ],
)
def test_variants_are_one_object(variants):
    assert len({object_name(variant) for variant in variants}) == 1


def test_split_is_fixed_and_holds_out_a_tenth():
    assert [split_of(name) for name in ("owl", "banana", "bee", "apple")] == ["train", "test", "test", "train"]
    held_out = sum(split_of(f"thing {number}") == "test" for number in range(5000))
    assert 400 < held_out < 600


def test_slug_is_a_safe_file_name():
    assert slug("../Ça  va?/\\") == "ca-va"
    assert slug("日本") == "unnamed"


def test_cutout_is_trimmed_and_not_enlarged():
    small = Image.new("RGBA", (300, 300))
    small.paste(disk(size=100), (150, 20))
    result = clean_cutout(small)
    assert result.size == (74, 74)  # the disk's 70 pixels and a margin of 2
    alpha = np.asarray(result)[..., 3]
    assert not alpha[:2].any()
    assert alpha[37, 37] == 255

    assert 250 <= max(clean_cutout(disk(size=900)).size) <= 256


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("RGBA", (200, 200)), "empty"),
        (Image.new("RGB", (200, 200), "white"), "opaque"),
        (disk(size=60), "too small"),
        (Image.new("L", (7000, 7000)), "too large"),
        (disk(size=400).crop((120, 120, 280, 280)), "opaque"),
    ],
    ids=["empty", "opaque", "small", "huge", "window"],
)
def test_unusable_cutouts_are_refused(image, reason):
    with pytest.raises(Rejected, match=reason):
        clean_cutout(image)


def test_box_with_rounded_corners_and_thin_lines_are_refused():
    box = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(box).rounded_rectangle((0, 0, 199, 199), radius=60, fill="white")
    with pytest.raises(Rejected, match="border"):
        clean_cutout(box)
    line = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(line).line((0, 0, 199, 199), fill="black", width=3)
    with pytest.raises(Rejected, match="nearly empty"):
        clean_cutout(line)


def test_photographs_and_drawings():
    assert is_photographic(clean_cutout(disk(seed=1)))
    assert not is_photographic(clean_cutout(disk()))
    assert is_blank(Image.new("RGBA", (9, 9), "black"))
    assert not is_blank(disk())


def test_background_size():
    assert clean_background(photograph(0, (2000, 1000))).size == (1024, 512)
    with pytest.raises(Rejected, match="too small"):
        clean_background(photograph(0, (400, 200)))


def client(folder, name, script):
    """Put an executable of this name first on the search path."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)


def test_fetch_unpacks_once_and_cleans_up(tmp_path, monkeypatch):
    tools, cache = tmp_path / "bin", tmp_path / "cache"
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as tar:
        (tmp_path / "data.json").write_text("[]")
        tar.add(tmp_path / "data.json", "package/en/data.json")
    script = (
        f"import shutil, sys; assert sys.argv[1:] == ['pack', '--silent', 'emojibase-data']\n"
        f"shutil.copy({str(tmp_path / 'made.tgz')!r}, 'emojibase-data-1.tgz')"
    )
    client(tools, "npm", script)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    assert corpora.fetch(["emojibase-data"], cache) == cache
    assert [path.name for path in cache.iterdir()] == ["emojibase-data"]
    assert [p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file()] == [
        "emojibase-data/package/en/data.json"
    ]
    client(tools, "npm", "raise SystemExit('called again')")
    corpora.fetch(["emojibase-data"], cache)


def test_failed_fetch_is_one_readable_error_and_leaves_no_package(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    client(tools, "npm", "raise SystemExit('no network')")
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(OmniAlphaError, match="no network"):
        corpora.fetch(["emojibase-data"], tmp_path / "cache")
    assert not (tmp_path / "cache/emojibase-data").exists()
    with pytest.raises(OmniAlphaError, match="apt-get is not installed"):
        corpora.fetch(["tuxpaint-data"], tmp_path / "cache")
    with pytest.raises(InputError, match='did you mean "tuxpaint-data"'):
        corpora.fetch(["tuxpaint-dat"], tmp_path / "cache")


def test_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("OMNIALPHA_DATA", str(tmp_path))
    assert corpora.default_cache() == tmp_path
    monkeypatch.delenv("OMNIALPHA_DATA")
    assert corpora.default_cache() == Path.home() / ".cache/omnialpha/corpora"


def test_command_line(cache, tmp_path, capsys):
    corpora.main([str(tmp_path / "out"), "--cache", str(cache)])
    assert (tmp_path / "out/index.jsonl").is_file()
    with pytest.raises(SystemExit) as stopped:
        corpora.main([str(tmp_path / "out"), "--cache", str(cache)])
    assert stopped.value.code == 1
    assert "not empty" in capsys.readouterr().err
