"""From sources of data to groups of examples: the mixture of tasks, and which sample can serve which task.

`corpus_groups` draws synthetic scenes from prepared cut-outs and backgrounds; `sample_groups` turns the samples of a
manifest into any of the 21 tasks. `omnialpha.data.loader.draw_batch` draws batches from what they return.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from omnialpha.data.buckets import Size, bucket_size, picture_size
from omnialpha.data.examples import Example, make_example
from omnialpha.data.loader import Group
from omnialpha.data.manifest import Sample, read_scene
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.errors import InputError
from omnialpha.tasks import SEVERAL, TASKS, Task
from omnialpha.tasks import task as find_task

K = TypeVar("K")

Mixture = Mapping[str, Sequence[float]]
"""How often each task is drawn, from scenes with 1, 2, … foregrounds. Where the data bring their own number of
foregrounds (a manifest), a task's weights are added up."""

UNIFORM: Mixture = dict.fromkeys(TASKS, (1.0,))
"""All tasks alike."""

MIXTURE: Mixture = {
    "text_to_image": (1.0,),
    "foreground_to_background": (0.3, 0.1),
    "foreground_to_composite": (0.3, 0.1),
    "background_to_foreground": (0.3, 0.2),
    "background_to_composite": (0.3,),
    "matting_auto": (3.0,),
    "matting_alpha": (0.375, 0.1),
    "matting_trimap": (0.375, 0.1),
    "matting_precise_mask": (0.375, 0.1),
    "matting_rough_mask": (0.375, 0.1),
    "matting_text": (0.3, 1.2),
    "removal_auto": (1.5,),
    "removal_alpha": (0.3, 0.1),
    "removal_trimap": (0.3, 0.1),
    "removal_precise_mask": (0.3, 0.1),
    "removal_rough_mask": (0.3, 0.1),
    "decomposition_auto": (4.0, 0.6),
    "decomposition_alpha": (0.3,),
    "decomposition_trimap": (0.3,),
    "decomposition_precise_mask": (0.3,),
    "decomposition_rough_mask": (0.3,),
}
"""The embedded checkpoint's: most weight on what is asked for most; words pay off where there are two objects."""


def corpus_groups(corpus: Corpus, mixture: Mixture = MIXTURE, *, size: int) -> list[Group[Example]]:
    """Synthetic square scenes, a new one for every draw.

    Args:
        corpus: where cut-outs and backgrounds come from.
        mixture: task weights for scenes with 1, 2, … foregrounds.
        size: side of the pictures, pixels.

    Raises:
        InputError: the mixture names an unknown task or has no weight.
    """
    kinds: dict[tuple[int, int], dict[tuple[Task, int], float]] = defaultdict(dict)
    for task, weights in _checked(mixture):
        for count, weight in enumerate(weights, start=1):
            if weight > 0:
                kinds[_structure(task, count)][task, count] = weight

    def draw(kind: Mapping[tuple[Task, int], float], _: int, rng: np.random.Generator) -> Example:
        task, count = _pick(kind, rng)
        return make_example(draw_scene(corpus, rng, size, count), task, rng)

    return [
        Group(
            size=(size, size),
            num_inputs=n,
            num_targets=m,
            weight=sum(kind.values()),
            items=None,
            draw=partial(draw, kind),
        )
        for (n, m), kind in kinds.items()
    ]


def sample_groups(
    samples: Sequence[Sample], mixture: Mixture = UNIFORM, *, area: int, grid: int
) -> list[Group[Example]]:
    """The samples of a manifest, each as every task that it has the pictures and captions for.

    Tasks are drawn as often as the mixture says, however many samples serve them; the samples of a task alike.

    Args:
        samples: checked by `omnialpha.data.checks.usable`; only headers are read here.
        mixture: task weights; a sample brings its own number of foregrounds.
        area: most pixels of a picture, see `omnialpha.data.buckets.bucket_size`.
        grid: widths and heights are multiples of this.

    Raises:
        ImageError: a file is not a picture.
        InputError: the mixture names an unknown task, or no sample serves any task of it.
    """
    weights = {task: sum(by_count) for task, by_count in _checked(mixture) if sum(by_count) > 0}
    serving = {task: sum(serves(sample, task) for sample in samples) for task in weights}
    kinds: dict[tuple[Size, tuple[int, int], tuple[Task, ...]], list[Sample]] = defaultdict(list)
    for sample in samples:
        size = bucket_size(picture_size(sample.files[0]), area=area, grid=grid)
        by_structure: dict[tuple[int, int], list[Task]] = defaultdict(list)
        for task in weights:
            if serves(sample, task):
                by_structure[_structure(task, len(sample.foregrounds))].append(task)
        # Samples that serve different tasks are kept apart, so that each task's share comes out exactly.
        for structure, served in by_structure.items():
            kinds[size, structure, tuple(served)].append(sample)
    if not kinds:
        raise InputError(
            f"none of {len(samples)} samples serves any of the tasks {', '.join(mixture)}; add captions or backgrounds"
        )

    def draw(
        members: Sequence[Sample], tasks: Mapping[Task, float], size: Size, item: int, rng: np.random.Generator
    ) -> Example:
        return make_example(read_scene(members[item], size), _pick(tasks, rng), rng)

    groups = []
    for (size, (n, m), tasks), members in kinds.items():
        each = {task: weights[task] / serving[task] for task in tasks}
        groups.append(
            Group(
                size=size,
                num_inputs=n,
                num_targets=m,
                weight=sum(each.values()) * len(members),
                items=[member.id for member in members],
                draw=partial(draw, members, each, size),
            )
        )
    return groups


def serves(sample: Sample, task: Task) -> bool:
    """Whether a sample has the pictures and the caption that a task needs."""
    slots = {*task.inputs, *task.targets}
    if "background" in slots and sample.background is None:
        return False
    if "composite" in slots and sample.composite is None and sample.background is None:
        return False
    known = {
        "foreground": all(sample.captions),
        "background": bool(sample.background_caption),
        "composite": bool(sample.composite_caption) or (all(sample.captions) and bool(sample.background_caption)),
        None: True,
    }
    return known[task.text]


def _structure(task: Task, count: int) -> tuple[int, int]:
    """Numbers of inputs and targets of a task about a scene with `count` foregrounds."""
    n, m = (sum(count if slot == SEVERAL else 1 for slot in slots) for slots in (task.inputs, task.targets))
    return n, m


def _checked(mixture: Mixture) -> list[tuple[Task, Sequence[float]]]:
    """The mixture with its tasks looked up."""
    for name, weights in mixture.items():
        if any(not math.isfinite(weight) or weight < 0 for weight in weights):
            raise InputError(f"task weights are 0 or more, {name} has {tuple(weights)}")
    if not any(weight for weights in mixture.values() for weight in weights):
        raise InputError("the task mixture has no weight above 0; give at least one task one")
    return [(find_task(name), weights) for name, weights in mixture.items()]


def _pick(weights: Mapping[K, float], rng: np.random.Generator) -> K:
    """One of the keys, by weight."""
    values = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(values), p=values / values.sum())]
