"""Captions, object names and the train / test split of the training corpora.

A picture's *caption* says what it shows ("a red apple"); its *object name* ("apple") is what the split is decided by,
so that variants of one thing (colours, skin tones, numbered takes, left / right) always fall on the same side.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_ARTICLES = "a an the some this"
_COLOURS = (
    "black white grey gray red green blue yellow orange purple brown pink golden gold silver violet beige cyan "
    "light dark medium pale bright"
)
_VARIANTS = (
    "left right leftwards rightwards facing front back side profile mirror mirrored flipped big large small little "
    "tiny open closed whole half sliced cut photo photograph icon clipart clip art new old simple plain double single "
    "one two three four five six seven eight nine ten eleven twelve thirty left-hand right-hand"
)
_PEOPLE = "man men woman women person people boy boys girl girls male female"
_DROPPED = frozenset(f"{_ARTICLES} {_COLOURS} {_VARIANTS}".split())
_PARTITIVE = re.compile(r"^.*\b(?:slice|piece|pair|bunch|bowl|glass|cup|bottle|plate|pile|stack|half)s? of ")

_CLAUSE_END = re.compile(
    r"\s*(?:[\u2014\u2013(,;!?\"\u201c\u2026]|\.(?:\s|$)|\s-+\s|--"
    r"|\s(?:is|are|lets|carries|resembles|stands for|used|called)\s)"
)


def words(text: str) -> list[str]:
    """Split a caption or a file name into lower-case ASCII words without digits.

    >>> words("Candy_cane_photo-2")
    ['candy', 'cane', 'photo']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", plain).lower().replace("'s", "s").replace("o'clock", "oclock")
    return [word for word in re.split(r"[^a-z]+", spaced) if word]


def first_clause(sentence: str) -> str:
    """Keep what names the thing and drop what is told about it.

    >>> first_clause("Saturn\u2014the second largest planet."), first_clause("A wombat (a marsupial)")
    ('Saturn', 'A wombat')
    """
    return _CLAUSE_END.split(sentence.strip(), maxsplit=1)[0].strip()


def object_name(caption: str) -> str:
    """Name the thing a caption shows, the same for all its variants.

    Args:
        caption: A caption or a cleaned file name.

    Returns:
        Lower-case words; never empty unless the caption holds no letter at all.

    >>> object_name("A red apple."), object_name("apples 2"), object_name("Half of a green apple")
    ('apple', 'apple', 'apple')
    >>> object_name("woman running: medium skin tone"), object_name("man running")
    ('running', 'running')
    """
    head = (first_clause(caption) or caption).lower().split(":")[0]
    all_words = words(_PARTITIVE.sub("", head)) or words(caption)
    kept = [word for word in all_words if word not in _DROPPED] or all_words
    without_people = [word for word in kept if word not in _PEOPLE.split()]
    kept = without_people or ["person"]
    last = kept[-1]
    if len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is")):
        kept[-1] = last[:-1]
    return " ".join(kept)


def has_object(caption: str) -> bool:
    """Tell whether anything is left of a caption besides articles, colours and variants.

    >>> has_object("the old"), has_object("old car")
    (False, True)
    """
    return any(word not in _DROPPED for word in words(caption))


def split_of(name: str) -> str:
    """Put a name on its fixed side: one name in ten, by hash, is held out.

    >>> split_of("apple"), split_of("umbrella") == split_of("umbrella")
    ('train', True)
    """
    return "test" if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0 else "train"


def slug(text: str) -> str:
    """Turn a text into a short file name.

    >>> slug("A red apple!"), slug("mountain10")
    ('a-red-apple', 'mountain10')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "unnamed"
