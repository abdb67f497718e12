"""Cases of a manifest: all tasks on samples whose layers are known, such as AlphaLayers' test split."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from omnialpha.data.examples import guide_picture, make_example
from omnialpha.data.manifest import Sample, read_manifest, read_scene
from omnialpha.data.scenes import caption_several, caption_whole
from omnialpha.errors import InputError
from omnialpha.evaluation.cases import Case, Content, Kind, draws, flat
from omnialpha.evaluation.pictures import Note
from omnialpha.imaging.decode import open_picture
from omnialpha.imaging.files import opened
from omnialpha.imaging.rgba import to_pil
from omnialpha.tasks import SEVERAL, TASKS, Task
from omnialpha.tasks import task as find_task

logger = logging.getLogger(__name__)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "matting": "cutout",
        "removal": "picture",
        "decomposition": "layers",
        "completion": "generated",
        "text_to_image": "generated",
    }
)
"""How the predictions of each category of tasks are scored."""


def completion(data: Path) -> list[Case]:
    """Layer-conditioned completion (Table 3): whole pictures from a foreground or a background; for pairwise judging.

    Args:
        data: A manifest; its test split is used.

    Raises:
        InputError: The manifest has no such samples.
    """
    return alphalayers_test(data, tasks=("foreground_to_composite", "background_to_composite"))


def alphalayers_test(data: Path, *, tasks: Sequence[str] = tuple(TASKS)) -> list[Case]:
    """The test split of AlphaLayers, or of any manifest, on all tasks (Tables 2 to 5).

    The first (frontmost) foreground is the object of tasks about one object. Trimaps and rough masks are drawn with a
    seed made from the sample's id. A task is left out for a sample that lacks the caption or the background it needs.

    Args:
        data: A manifest; its test split is used.
        tasks: Ids of tasks.

    Raises:
        InputError: An unknown task, or no sample serves any of them.
    """
    found = [find_task(name) for name in tasks]
    samples = [sample for sample in read_manifest(data) if sample.split == "test"]
    if not samples:
        raise InputError(f'{data}: has no sample of the split "test"; set it in the manifest')
    cases = []
    for task in found:
        served = [sample for sample in samples if _serves(sample, task)]
        if len(served) < len(samples):
            logger.warning("%s: %d samples lack what the task needs", task.id, len(samples) - len(served))
        cases += [_sample_case(sample, task) for sample in served]
    return cases


def _caption(sample: Sample, task: Task) -> str | None:
    """The caption that `data.examples.make_example` gives a task whose object is the first foreground."""
    captions = {
        "foreground": caption_several(sample.captions) if SEVERAL in task.targets else sample.captions[0],
        "background": sample.background_caption,
        "composite": sample.composite_caption or caption_whole(sample.captions, sample.background_caption),
    }
    return None if task.text is None else captions[task.text]


def _serves(sample: Sample, task: Task) -> bool:
    complete = sample.background is not None or "background" not in (*task.inputs, *task.targets)
    return complete and (task.text is None or bool(_caption(sample, task)))


def _sample_case(sample: Sample, task: Task) -> Case:
    num_foregrounds = len(sample.foregrounds) if SEVERAL in task.targets else 1
    return Case(
        id=sample.id,
        task=task.id,
        kind=KINDS[task.category],
        text=_caption(sample, task),
        num_targets=num_foregrounds + (len(task.targets) - 1),
        files=sample.files,
        read=partial(_read_sample, sample, task),
    )


def _read_sample(sample: Sample, task: Task, note: Note) -> Content:
    with opened(sample.foregrounds[0]) as (file, name):
        size = open_picture(file, name).size
    example = make_example(read_scene(sample, size), task, draws(sample.id), paraphrase=False, focus=0)
    # Table 1 lists foregrounds front to back and the background last.
    targets = [_bytes(layer) for layer in reversed(example.targets)]
    trimap = None
    if task.category == "matting":
        trimap = np.rint(guide_picture(example.targets[0][..., 3], "trimap", draws(sample.id))[..., 0] * 255)
        trimap = trimap.astype(np.uint8)
    kind = KINDS[task.category]
    target: np.ndarray | list[np.ndarray] = targets if kind == "layers" else targets[-1]
    if kind == "picture":
        target = np.ascontiguousarray(targets[0][..., :3])
    elif kind == "generated":
        target = _bytes(flat(targets))
    return Content(images=tuple(Image.fromarray(_bytes(i)) for i in example.inputs), target=target, trimap=trimap)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.asarray(to_pil(picture))
