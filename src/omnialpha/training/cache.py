"""Latents and prompt embeddings, computed once: training then needs neither VAE nor VLM.

`build_cache` draws a fixed number of examples from groups of data, encodes them and writes a folder:

    shard-00000.safetensors …   one tensor per picture (latents) and per prompt (hidden states), named by content
    rows.jsonl                  one line per example: which tensors it is made of
    cache.json                  settings, fingerprints of the weights, the groups; written last

The name of a tensor is a hash of what it was computed from: the pixels at their training size, the prompt with its
pictures, the weights. So whatever is there already is used again: after an interruption, after files or captions were
added or changed, and wherever examples share a picture. Only what is new is encoded.

What a cache forgoes is in `FORGONE`, which `cache.json` and the log repeat.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omnialpha.data.examples import Example
from omnialpha.data.loader import Group
from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write
from omnialpha.models.prompt import over_white
from omnialpha.models.rope import LayerOrder
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.encoding import Encoded, as_tensor, encode_pictures, in_order, pad_prompts
from omnialpha.training.fingerprints import digest, hash_picture, vae_fingerprint, vlm_fingerprint
from omnialpha.training.store import TensorStore

logger = logging.getLogger(__name__)

FORGONE = (
    "masks, wordings of the instruction, the object that a task is about and synthetic scenes are drawn a fixed number "
    "of times and then repeat; without a cache they are drawn anew every time. Prompts are still dropped at random."
)

_GROUP = ("size", "num_inputs", "num_targets", "weight")  # what of a group is written down

EXAMPLES_AT_ONCE = 16  # drawn and encoded together
READERS = 4  # threads that read pictures


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cached example: names of its tensors.

    Attributes:
        id: the item, its structure and the number of the draw.
        task: what it is an example of.
        group: number of its group in `cache.json`.
        inputs: latents of the n inputs.
        targets: latents of the m targets, in the order of the checkpoint.
        prompt: hidden states of instruction and pictures.
        dropped: the same without the instruction.
    """

    id: str
    task: str
    group: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    prompt: str
    dropped: str


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """What building a cache took.

    Attributes:
        rows: examples in the cache.
        encoded: tensors computed.
        reused: tensors of these rows that were there before.
        stale: tensors in the folder that no row uses any more.
        bytes: size of the folder's tensors on disk.
    """

    rows: int
    encoded: int
    reused: int
    stale: int
    bytes: int


def build_cache(
    pipeline: OmniAlphaPipeline, groups: Sequence[Group[Example]], folder: str | Path, *, draws: int = 1, seed: int = 0
) -> CacheReport:
    """Draw examples and encode what is not encoded yet.

    Interrupted, it goes on where the last file of tensors was written.

    Args:
        pipeline: VAE, VLM and profile of the checkpoint to be trained.
        groups: of any source of data.
        folder: of the cache; one that exists is brought up to date.
        draws: examples made of each item of a group. Groups without items (synthetic scenes) share out this many
            examples by weight.
        seed: of the draws; an item's draws do not depend on the other items.

    Returns:
        What was done.

    Raises:
        ImageError: a picture cannot be read.
        InputError: a number is below 1, or a file of the cache is damaged.
    """
    if draws < 1 or not groups:
        raise InputError(f"a cache needs at least one draw and one group, received {draws} and {len(groups)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = _Encoder(pipeline, TensorStore(folder))
    logger.info("%s: with this cache, %s", folder, FORGONE)
    rows: list[Row] = []
    total = sum(group.weight for group in groups)
    for number, group in enumerate(groups):
        count = max(1, round(draws * group.weight / total)) if group.items is None else draws
        for drawn in _examples(group, count, seed):
            rows += encoder.encode(drawn, number)
        logger.info("%s: %d of %d groups, %d examples", folder, number + 1, len(groups), len(rows))
    encoder.store.flush()
    used = {name for row in rows for name in (*row.inputs, *row.targets, row.prompt, row.dropped)}
    report = CacheReport(
        rows=len(rows),
        encoded=len(encoder.new),
        reused=len(used - encoder.new),
        stale=len(encoder.store) - len(used),
        bytes=sum(file.stat().st_size for file in folder.glob("shard-*.safetensors")),
    )
    record = {
        "seed": seed,
        "draws": draws,
        "forgone": FORGONE,
        "layer_order": pipeline.profile.layer_order,
        "weights": {"vae": encoder.vae, "vlm": encoder.vlm},
        "groups": [{name: getattr(group, name) for name in _GROUP} for group in groups],
        "report": asdict(report),
    }
    with atomic_write(folder / "rows.jsonl", overwrite=True) as temporary:
        temporary.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    with atomic_write(folder / "cache.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if report.stale:
        logger.info("%s: %d tensors are of no use any more; delete the folder to be rid of them", folder, report.stale)
    return report


class Cache:
    """A cache on disk, read for training.

    Attributes:
        layer_order: the order of the targets, as in the profile of the checkpoint that encoded them.
        groups: for `omnialpha.data.loader.draw_batch`, which draws `Row`s from them.

    Args:
        folder: written by `build_cache`.

    Raises:
        InputError: the folder holds no finished cache.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / "cache.json").is_file():
            raise InputError(f"{folder}: holds no finished cache; make it with `omnialpha train cache`")
        record = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        members: list[list[Row]] = [[] for _ in record["groups"]]
        for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            row = Row(**{**values, "inputs": tuple(values["inputs"]), "targets": tuple(values["targets"])})
            members[row.group].append(row)
        self.layer_order: LayerOrder = record["layer_order"]
        self.groups = [
            Group(**{**group, "size": tuple(group["size"])}, items=[row.id for row in rows], draw=partial(_row, rows))
            for group, rows in zip(record["groups"], members, strict=True)
        ]
        self._weights: dict[str, str] = record["weights"]
        self._store = TensorStore(folder)

    def check(self, pipeline: OmniAlphaPipeline) -> None:
        """Refuse to train a pipeline on what another one encoded.

        Args:
            pipeline: its VAE and VLM are hashed where they are: seconds for the largest.

        Raises:
            InputError: VAE, VLM, templates, picture sizes or the order of layers differ.
        """
        found = {
            "VAE": (vae_fingerprint(pipeline), self._weights["vae"]),
            "VLM": (vlm_fingerprint(pipeline), self._weights["vlm"]),
            "layer order": (pipeline.profile.layer_order, self.layer_order),
        }
        differing = [name for name, (own, cached) in found.items() if own != cached]
        if differing:
            raise InputError(
                f"{self._store.folder}: was made with another {' and '.join(differing)}; "
                "run `omnialpha train cache` with the model to be trained"
            )

    def collate(self, rows: Sequence[Row], dropped: Sequence[bool]) -> Encoded:
        """Read the tensors of a batch; like `encoding.encode`, without running a model.

        Args:
            rows: drawn from one of `groups`.
            dropped: for each, whether its instruction is left out.

        Returns:
            The batch, on the CPU, in the dtype in which it was encoded.
        """
        read = self._store.read
        prompts = [read(row.dropped if drop else row.prompt) for row, drop in zip(rows, dropped, strict=True)]
        inputs = [torch.stack([read(name) for name in row.inputs]) for row in rows if row.inputs]
        return Encoded(
            inputs_BLCHW=torch.stack(inputs) if inputs else None,
            targets_BLCHW=torch.stack([torch.stack([read(name) for name in row.targets]) for row in rows]),
            prompt=pad_prompts(prompts),
            tasks=tuple(row.task for row in rows),
        )


class _Encoder:
    """Encodes what a store does not hold yet."""

    def __init__(self, pipeline: OmniAlphaPipeline, store: TensorStore) -> None:
        self.pipeline = pipeline
        self.store = store
        self.new: set[str] = set()
        self.vae = vae_fingerprint(pipeline)
        self.vlm = vlm_fingerprint(pipeline)

    @torch.no_grad()
    def encode(self, drawn: Sequence[tuple[str, Example]], group: int) -> list[Row]:
        """Rows of some examples of one group, with all their tensors in the store."""
        pictures: dict[str, np.ndarray] = {}
        prompts: dict[str, tuple[str, tuple[np.ndarray, ...]]] = {}
        rows = []
        for name, example in drawn:
            targets = in_order(self.pipeline, example)
            hashes = [hash_picture(array) for array in (*example.inputs, *targets)]
            latents = [f"picture-{digest(self.vae, each)}" for each in hashes]
            pictures.update(zip(latents, (*example.inputs, *targets), strict=True))
            n = len(example.inputs)
            texts = (example.prompt, "")
            embeds = [f"prompt-{digest(self.vlm, text, *hashes[:n])}" for text in texts]
            prompts.update(zip(embeds, [(text, example.inputs) for text in texts], strict=True))
            rows.append(
                Row(
                    id=name,
                    task=example.task,
                    group=group,
                    inputs=tuple(latents[:n]),
                    targets=tuple(latents[n:]),
                    prompt=embeds[0],
                    dropped=embeds[1],
                )
            )
        if missing := {name: array for name, array in pictures.items() if name not in self.store}:
            self._add(missing, encode_pictures(self.pipeline, as_tensor(*missing.values())))
        if absent := {name: pair for name, pair in prompts.items() if name not in self.store}:
            images = [list(over_white(as_tensor(*inputs))) if inputs else [] for _, inputs in absent.values()]
            embeds_BTD, mask_BT = self.pipeline.prompt_encoder.embed([text for text, _ in absent.values()], images)
            lengths = [embeds_BTD.shape[1]] * len(absent) if mask_BT is None else mask_BT.sum(1).tolist()

            self._add(absent, [row[:length] for row, length in zip(embeds_BTD, lengths, strict=True)])
        return rows

    def _add(self, names: Mapping[str, object], tensors: Sequence[Tensor] | Tensor) -> None:
        for name, tensor in zip(names, tensors, strict=True):
            self.store.add(name, tensor)
            self.new.add(name)


def _examples(group: Group[Example], count: int, seed: int) -> Iterator[list[tuple[str, Example]]]:
    """Every item of a group `count` times (or `count` draws of a group without items), named, some at a time."""
    structure = f"{group.num_inputs}-{group.num_targets}"
    if group.items is None:
        wanted = [(0, f"{structure} draw {draw}") for draw in range(count)]
    else:
        wanted = [
            (item, f"{name} {structure} draw {draw}") for item, name in enumerate(group.items) for draw in range(count)
        ]

    def make(item: int, name: str) -> tuple[str, Example]:
        # Seeded by name: what one item becomes does not depend on how many others there are.
        return name, group.draw(item, np.random.default_rng([seed, *name.encode()]))

    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(wanted), EXAMPLES_AT_ONCE):
            yield list(pool.map(lambda pair: make(*pair), wanted[first : first + EXAMPLES_AT_ONCE]))


def _row(rows: Sequence[Row], item: int, _: np.random.Generator) -> Row:
    return rows[item]
