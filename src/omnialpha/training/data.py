"""What the commands call DATA: a folder of prepared corpora, a manifest, the authors' listing, or a cache of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnialpha.data.authors import entry_groups, read_listing
from omnialpha.data.checks import usable
from omnialpha.data.examples import Example
from omnialpha.data.groups import MIXTURE, UNIFORM, Mixture, corpus_groups, sample_groups, serves
from omnialpha.data.loader import Group, draw_batch
from omnialpha.data.manifest import Sample, read_manifest
from omnialpha.data.scenes import Corpus
from omnialpha.errors import InputError
from omnialpha.tasks import TASKS
from omnialpha.training.cache import Cache
from omnialpha.training.dit_config import DitConfig

VALIDATED = ("matting_auto", "removal_auto", "decomposition_auto", "matting_rough_mask", "removal_precise_mask")
"""Tasks of the held-out examples, in turn, as far as the data serve them."""

_VALIDATION_SEED = 2_000_003  # the same examples for every run


@dataclass(frozen=True)
class Data:
    """What a stage-2 run reads.

    Attributes:
        groups: what batches are drawn from.
        cache: where their latents and embeddings are; None when they are pictures.
        held_out: examples for validation, empty when the data keep none back.
    """

    groups: list[Group[Any]]
    cache: Cache | None
    held_out: list[Example]


def open_data(path: Path, config: DitConfig, *, grid: int, held_out: Path | None, skip_broken: bool) -> Data:
    """Open training data of any kind.

    Args:
        path: DATA.
        config: size of the pictures, number of held-out samples.
        grid: widths and heights are multiples of this.
        held_out: DATA for validation; None takes the split "test" of `path`, where it has one.
        skip_broken: leave out samples with broken files instead of refusing them.

    Raises:
        InputError: nothing of a known kind is there, or files are broken: all are listed.
    """
    if (path / "cache.json").is_file():
        cache = Cache(path)
        groups: list[Group[Any]] = list(cache.groups)
    else:
        found = open_pictures(path, "train", skip_broken=skip_broken)
        cache, groups = None, groups_of(found, path, config.size, grid)
    examples = []
    if config.validate_every and (held_out is not None or (cache is None and has_test_split(path))):
        examples = held_out_examples(held_out or path, config, grid, skip_broken=skip_broken)
    return Data(groups, cache, examples)


def groups_of(found: Any, path: Path, size: int, grid: int, mixture: Mixture | None = None) -> list[Group[Example]]:
    """Groups of what :func:`open_pictures` found at a path, pictures of about size² pixels."""
    if isinstance(found, Corpus):
        return corpus_groups(found, MIXTURE if mixture is None else mixture, size=size)
    if path.suffix == ".jsonc":
        return entry_groups(found, area=size**2, grid=grid)
    return sample_groups(found, UNIFORM if mixture is None else mixture, area=size**2, grid=grid)


def open_pictures(path: Path, split: str, *, skip_broken: bool) -> Any:
    """A corpus, the samples of a manifest, or the entries of the authors' listing, of one split, their files checked.

    Raises:
        InputError: nothing of a known kind is there, the split is empty, or files are broken: all are listed.
    """
    if (path / "index.jsonl").is_file():
        return Corpus(path, split)
    if path.suffix == ".jsonc" and path.is_file():
        return usable(read_listing(path, split), skip_broken=skip_broken)
    if path.suffix == ".jsonl" and path.is_file():
        samples = _of_split(path, split)
        if not samples:
            raise InputError(f'{path}: has no samples of the split "{split}".')
        return usable(samples, skip_broken=skip_broken)
    raise InputError(
        f"{path}: expected a manifest (.jsonl), the authors' listing (.jsonc), a folder made by "
        "`python -m omnialpha.data.corpora`, or a cache made by `omnialpha train cache`."
    )


def has_test_split(path: Path) -> bool:
    """Whether the data keep samples back for validation."""
    if (path / "index.jsonl").is_file():
        return True  # corpora always do
    return path.suffix == ".jsonl" and path.is_file() and bool(_of_split(path, "test"))


def held_out_examples(path: Path, config: DitConfig, grid: int, *, skip_broken: bool) -> list[Example]:
    """`config.validate_samples` examples of the split "test" ("valid" in a listing), tasks `VALIDATED` in turn."""
    found = open_pictures(path, "valid" if path.suffix == ".jsonc" else "test", skip_broken=skip_broken)
    if path.suffix == ".jsonc":  # its lines are of whatever task they are
        by_task = [groups_of(found, path, config.size, grid)]
    else:
        served: Sequence[str] = VALIDATED
        if not isinstance(found, Corpus):
            served = [name for name in VALIDATED if any(serves(sample, TASKS[name]) for sample in found)]
        by_task = [groups_of(found, path, config.size, grid, {name: (1.0,)}) for name in served]
    return [
        example
        for number in range(config.validate_samples if by_task else 0)
        for example in draw_batch(by_task[number % len(by_task)], seed=_VALIDATION_SEED, step=number, batch_size=1)
    ]


def _of_split(manifest: Path, split: str) -> list[Sample]:
    return [sample for sample in read_manifest(manifest) if sample.split == split]
