"""What each corpus package holds: one generator per package, yielding `Item` records.

Nothing is decoded here that is not used: an item opens its picture when asked. Each reader knows its package's
licence and which of its files are worth having; the general filter is in `cutouts`.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from omnialpha.data.naming import first_clause, has_object, words


@dataclass(frozen=True, kw_only=True)
class Item:
    """A picture of a package before it is cleaned.

    Attributes:
        kind: "foreground" or "background".
        key: Name unique within its source.
        caption: What it shows.
        source: Short source name, also the folder it is written to.
        licence: Licence of this file as the package states it.
        open: Opens the picture.
        drawn: True where the package itself tells that it is no photograph (drawings, renders).
        scene: Name the split goes by where it is not the caption's object name.
    """

    kind: str
    key: str
    caption: str
    source: str
    licence: str
    open: Callable[[], Image.Image]
    drawn: bool = False
    scene: str | None = None


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: Image.open(path)


_STAMPS_LEFT_OUT = ("symbols/alphabets", "symbols/math", "symbols/music", "town/flags", "town/roadsigns")


_STAMPS_DRAWN = ("symbols/", "clothes/", "seasonal/easter", "seasonal/hanukkah")


def tuxpaint_stamps(root: Path) -> Iterator[Item]:
    """Debian `tuxpaint-stamps-default` (GPL-2): captioned cut-outs; letters, digits, notes and signs are left out."""
    stamps = root / "usr/share/tuxpaint/stamps"
    for path in sorted(stamps.rglob("*.png")):
        key = path.relative_to(stamps).with_suffix("").as_posix()
        text = path.with_suffix(".txt")
        if key.startswith(_STAMPS_LEFT_OUT) or key.endswith(("_mirror", "_flip", "_mirror_flip")) or not text.exists():
            continue
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines or not lines[0].strip():
            continue
        yield Item(
            kind="foreground",
            key=key,
            caption=_stamp_caption(lines[0], path.stem),
            source="tuxpaint-stamps",
            licence="GPL-2",
            open=_opener(path),
            drawn="/cartoon/" in f"/{key}" or key.startswith(_STAMPS_DRAWN),
        )


_SAYINGS = frozenset({"remember", "we", "with", "this", "eat", "its"})


def _stamp_caption(line: str, stem: str) -> str:
    """Take the first clause of a stamp's text, or its file name where the text is a saying and names nothing."""
    clause = first_clause(line)
    opening = words(clause)[:1]
    saying = not opening or opening[0] in _SAYINGS or len(clause.split()) > 6
    return " ".join(words(stem)) if saying else clause


_EMOJI_GROUPS_LEFT_OUT = frozenset({2, 8, 9})  # components, symbols (mostly lettering on a tile), flags


def fluent_emoji(assets_root: Path, names_root: Path) -> Iterator[Item]:
    """`@lobehub/fluent-emoji-3d` of npm (MIT) named by `emojibase-data` (MIT): no flags, signs, skin-tone copies."""
    records = json.loads((names_root / "en/data.json").read_text(encoding="utf-8"))
    labels = {record["hexcode"].lower().replace("-fe0f", ""): record for record in records}
    for path in sorted((assets_root / "assets").glob("*.webp")):
        record = labels.get(path.stem.lower().replace("-fe0f", ""))
        # Skin-tone copies are listed inside their record ("skins"), so looking only at the records leaves them out.
        if record is None or record.get("group") is None or record["group"] in _EMOJI_GROUPS_LEFT_OUT:
            continue
        yield Item(
            kind="foreground",
            key=path.stem,
            caption=record["label"],
            source="fluent-emoji",
            licence="MIT",
            open=_opener(path),
            drawn=True,
        )


_FURNITURE_LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0 (Blend Swap contributors, eTeks)",
    "KatorLegaz": "CC-BY-3.0-US (Andrew Kator & Jennifer Legaz)",
    "Reallusion": "CC-BY-3.0-US (Reallusion)",
    "Scopia": "CC-BY-3.0 (eTeks and Scopia Visual Interfaces Systems)",
}


def sweethome3d(root: Path) -> Iterator[Item]:
    """Debian `sweethome3d-furniture`: rendered icons of 3-D models with their catalogue names, CC0 and CC-BY only."""
    for path in sorted((root / "usr/share/sweethome3d/furniture").glob("*.sh3f")):
        licence = _FURNITURE_LICENCES.get(path.stem)
        if licence is None:  # a library added by a later package version: its licence has not been read
            continue
        with zipfile.ZipFile(path) as archive:
            catalogue = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            for number, name, icon in _catalogue(catalogue):
                data = archive.read(icon)
                yield Item(
                    kind="foreground",
                    key=f"{path.stem}/{number}-{name}",
                    caption=name,
                    source="sweethome3d",
                    licence=licence,
                    open=lambda data=data: Image.open(io.BytesIO(data)),  # type: ignore[misc]
                    drawn=True,
                )


def _catalogue(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (number, name, icon's path in the archive) of a furniture catalogue's Java properties."""
    values = dict(re.findall(r"^((?:name|icon)#\d+)\s*=\s*(.*?)\s*$", text, flags=re.MULTILINE))
    for number in sorted(int(key[5:]) for key in values if key.startswith("name#")):
        icon = values.get(f"icon#{number}", "")
        if icon.endswith(".png"):
            yield number, values[f"name#{number}"], icon.lstrip("/")


_CLIPART_KEPT = (
    *("animals", "buildings", "containers", "decorations", "education", "electronics", "food", "office", "people"),
    *("plants", "recreation", "science", "tools", "transportation", "unsorted"),
)
_CLIPART_LEFT_OUT = re.compile(
    r"games/(cards|chess|dominoes)|transportation/(?!vehicles)|/signs?|flag|map|stickmen|silhouette|icon|logo|text|"
    r"letter|symbol|barcode|stamp|card|label|banner|frame|border|pattern|simbol|religion/creation|rules|font|calendar|poster"
)


_LOOSE_ENDS = frozenset({"and", "with", "from", "under", "the", "for", "sign"})


def openclipart(root: Path, vocabulary: frozenset[str]) -> Iterator[Item]:
    """Debian `openclipart-png` (public domain): drawings of things; icons, flags, signs, cards and shapes left out.

    File names run a title, the author's name and a number together, cut at some length
    ("dolphin_enrique_meza_c_02"). The words up to the first that is not in `vocabulary` are the title; files whose
    first word already is unknown (other languages, authors) are left out rather than mislabelled.
    """
    pictures = root / "usr/share/openclipart/png"
    for path in sorted(pictures.rglob("*.png")):
        key = path.relative_to(pictures).with_suffix("").as_posix()
        if key.split("/")[0] not in _CLIPART_KEPT or _CLIPART_LEFT_OUT.search(key.lower()):
            continue
        title: list[str] = []
        for word in words(path.stem):
            if word not in vocabulary:
                break
            title.append(word)
        while title and (title[-1] in _LOOSE_ENDS or len(title[-1]) < 3):
            title.pop()
        if not has_object(" ".join(title)):
            continue
        yield Item(
            kind="foreground",
            key=key,
            caption=" ".join(title),
            source="openclipart",
            licence="public-domain",
            open=_opener(path),
            drawn=True,
        )


def endless_sky(root: Path) -> Iterator[Item]:
    """Debian `endless-sky-data`, `images/land`: the photographs that its copyright file puts in the public domain."""
    copyright_text = (root / "usr/share/doc/endless-sky-data/copyright").read_text(encoding="utf-8")
    licences = _land_licences(copyright_text)
    for path in sorted((root / "usr/share/games/endless-sky/images/land").glob("*.jpg")):
        matching = {licence for pattern, licence in licences if fnmatch.fnmatch(f"images/land/{path.name}", pattern)}
        # DEP-5 lets the last match win, but "mountain1*" (public domain) also matches "mountain10-sfiera" (CC-BY-SA):
        # only a file that no other licence claims is taken.
        if matching != {"public-domain"}:
            continue
        scene = words(path.stem)[0]
        yield Item(
            kind="background",
            key=path.stem,
            caption=_SCENES.get(scene, scene),
            source="endless-sky",
            licence="public-domain",
            open=_opener(path),
            scene=scene,
        )


_SCENES = {
    "loc": "the inside of a factory",
    "nasa": "a rocket launch site",
    "earthrise": "the Earth rising over the Moon",
    "badlands": "barren hills",
    "beach": "a beach",
    "canyon": "a canyon",
    "city": "a city skyline",
    "desert": "a desert",
    "dune": "sand dunes",
    "mountain": "mountains",
    "valley": "a valley",
    "fields": "green fields",
    "fog": "a foggy landscape",
    "forest": "a forest",
    "hills": "hills",
    "lava": "a volcanic landscape",
    "sky": "the sky",
    "snow": "a snowy landscape",
    "space": "the inside of a spacecraft",
    "station": "a hall of a space station",
    "water": "a lake",
    "sea": "the sea",
}


def _land_licences(copyright_text: str) -> list[tuple[str, str]]:
    """List (pattern, licence) of the DEP-5 stanzas that name files under images/land."""
    pairs = []
    for stanza in re.split(r"\n\s*\n", copyright_text):
        files = re.search(r"^Files:(.*?)^(?=\S)", stanza, flags=re.MULTILINE | re.DOTALL)
        licence = re.search(r"^License:\s*(\S+)", stanza, flags=re.MULTILINE)
        if files and licence:
            pairs += [(p, licence[1]) for p in files[1].split() if p.startswith("images/land/")]
    return pairs


def tuxpaint_photos(root: Path) -> Iterator[Item]:
    """Debian `tuxpaint-data` (GPL-2+): the photographs among its drawing templates, captioned by file name."""
    for path in sorted((root / "usr/share/tuxpaint/templates").glob("*.jpg")):
        caption = " ".join(words(path.stem))
        yield Item(
            kind="background",
            key=path.stem,
            caption=caption,
            source="tuxpaint-templates",
            licence="GPL-2+",
            open=_opener(path),
            scene=caption,
        )
