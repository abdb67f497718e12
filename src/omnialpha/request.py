"""What a call of the pipeline asks for, checked before any model runs.

`understand` turns the two ways of calling (a task with pictures and a caption, or a bare prompt) into one `Request`;
`choose_sizes` says how large the results are and at which size the model works.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image

from omnialpha.errors import InputError
from omnialpha.models.pictures import Picture, Size, as_guide, as_image, resized
from omnialpha.models.profile import Profile
from omnialpha.models.prompt import grid_size
from omnialpha.tasks import Task
from omnialpha.tasks import task as find_task

logger = logging.getLogger(__name__)

Pictures = Picture | Sequence[Picture] | Sequence[Sequence[Picture]] | None
"""One picture, the pictures of one call, or a batch of such lists."""

GUIDES = ("alpha", "trimap", "precise_mask", "rough_mask")
"""Input slots whose pictures say where something is."""

DEFAULT_AREA = 1024 * 1024
"""Pixels of a result that nothing else determines: no input picture, no size in the call, no limit in the profile."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A call, understood.

    Attributes:
        task: the task; None when the caller wrote the prompt.
        prompts: one instruction per batch entry; each sample of a prompt is an entry.
        texts: the caption of each batch entry, where the task takes one.
        images: the "RGBA" input pictures of each batch entry; the same number and sizes in all entries. Equal pictures
            are one object.
        num_targets: m.
        steps: sampling steps.
        true_cfg_scale: guidance.
        guidance_interval: fractions of the steps between which guidance acts.
        step_cache: how steps are cached; None: not.
    """

    task: Task | None
    prompts: list[str]
    texts: list[str | None]
    images: list[list[Image.Image]]
    num_targets: int
    steps: int
    true_cfg_scale: float
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    step_cache: str | None = None

    @property
    def num_inputs(self) -> int:
        """The number n of input pictures."""
        return len(self.images[0])


def understand(
    profile: Profile,
    *,
    task: str | None,
    text: str | Sequence[str] | None,
    prompt: str | Sequence[str] | None,
    images: Pictures,
    num_targets: int | None,
    steps: int | None,
    true_cfg_scale: float | None,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    step_cache: str | None = None,
    num_embeds: int | None,
    num_samples: int = 1,
) -> Request:
    """Check a call and fill in what the task and the profile say.

    Args:
        profile: of the checkpoint.
        task: as in the pipeline's call, and so are the arguments that follow.
        text: see there.
        prompt: see there.
        images: see there.
        num_targets: see there.
        steps: ``num_inference_steps`` there.
        true_cfg_scale: see there.
        guidance_interval: see there.
        step_cache: see there.
        num_embeds: batch size of the prompt embeddings that stand for the prompt; None when there are none.
        num_samples: ``num_images_per_prompt`` there.

    Raises:
        InputError: the call contradicts itself, the task or the model.
        ImageError: a picture cannot be used.
    """
    found = None if task is None else find_task(task)
    if found is not None and (prompt is not None or num_embeds is not None):
        raise InputError(f"{found.id} writes its own prompt; leave prompt and prompt_embeds out, or leave task out")
    if found is None and text is not None:
        raise InputError("text belongs to a task; pass task=… with it, or write it into the prompt")
    if found is None and (prompt is None) == (num_embeds is None):
        raise InputError("expected one of task, prompt and prompt_embeds")

    words = text if found is not None else prompt
    entries, is_batch = _entries(images)
    B = _batch_size(words, len(entries) if is_batch else None, num_embeds)
    per_entry: list[str | None] = [words] * B if words is None or isinstance(words, str) else list(words)
    pictures = _shared(_pictures(found, entries))
    if found is None:
        m = 1 if num_targets is None else num_targets
        if m < 1:
            raise InputError(f"num_targets is at least 1, received {m}")
        prompts = [words or "" for words in per_entry]
    else:
        m = found.num_targets(num_targets)
        prompts = [found.prompt(words, template=profile.instructions.get(found.id)) for words in per_entry]
    if num_samples < 1:
        raise InputError(f"num_images_per_prompt is at least 1, received {num_samples}")
    entry_of_sample = [entry for entry in range(B) for _ in range(num_samples)]
    name = found.id if found is not None else ""
    request = Request(
        task=found,
        prompts=[prompts[b] for b in entry_of_sample],
        texts=[None if found is None else per_entry[b] for b in entry_of_sample],
        images=[pictures[b if is_batch else 0] for b in entry_of_sample],
        num_targets=m,
        steps=profile.task_steps.get(name, profile.steps) if steps is None else steps,
        true_cfg_scale=profile.task_cfg.get(name, profile.true_cfg_scale) if true_cfg_scale is None else true_cfg_scale,
        guidance_interval=guidance_interval,
        step_cache=step_cache,
    )
    if request.steps < 1:
        raise InputError(f"num_inference_steps is at least 1, received {request.steps}")
    return request


def choose_sizes(request: Request, profile: Profile, height: int | None, width: int | None) -> tuple[Size, Size]:
    """The exact size of the results and the size at which the model works, a multiple of its grid.

    A size in the call is taken as it is. Otherwise results are as large as the first picture, and the work is kept
    within the profile's limits.

    Raises:
        InputError: height or width is not positive.
    """
    for name, value in (("height", height), ("width", width)):
        if value is not None and value < 1:
            raise InputError(f"{name} is at least 1 pixel, received {value}")
    (own_width, own_height), own_work = own_sizes(request, profile)
    if width is None and height is None:
        exact, work = (own_width, own_height), own_work
    else:
        exact = (
            max(1, round((height or 0) * own_width / own_height)) if width is None else width,
            max(1, round((width or 0) * own_height / own_width)) if height is None else height,
        )
        work = grid_size(*exact, grid=profile.grid)
    if work != exact:
        # Rounding to the grid is hardly visible; working at a fraction of the size is.
        level = logging.WARNING if work[0] * work[1] < 0.9 * exact[0] * exact[1] else logging.INFO
        logger.log(level, "working at %d×%d pixels; results are scaled to %d×%d", *work, *exact)
    return exact, work


def own_sizes(request: Request, profile: Profile) -> tuple[Size, Size]:
    """The exact size of the results and the working size of a call that says none: those of `choose_sizes`."""
    limit = _area_limit(request, profile)
    if request.num_inputs:
        exact = request.images[0][0].size
    else:
        exact = grid_size(side := math.isqrt(limit or DEFAULT_AREA), side, grid=profile.grid)
    return exact, grid_size(*exact, grid=profile.grid, max_area=limit)


def fit_inputs(request: Request, profile: Profile, work: Size, *, explicit: bool) -> list[list[Image.Image]]:
    """The input pictures, scaled where they are larger than the work allows.

    Pictures of a task are registered with its results, so a size in the call is theirs, too. Without a task each
    keeps its own size, as in the released software.

    Args:
        request: the call.
        profile: of the checkpoint.
        work: the working size of the results.
        explicit: the call says a size.
    """
    limit = work[0] * work[1] if explicit else _area_limit(request, profile)

    def fitted(image: Image.Image) -> Image.Image:
        if limit is None or (image.width * image.height <= limit and not (request.task and explicit)):
            return image
        return resized(image, work if request.task else grid_size(*image.size, grid=profile.grid, max_area=limit))

    once = {id(image): fitted(image) for entry in request.images for image in entry}
    return [[once[id(image)] for image in entry] for entry in request.images]


def _entries(images: Pictures) -> tuple[list[list[Picture]], bool]:
    """The pictures of each batch entry, and whether the caller wrote a batch: otherwise one list serves all entries."""
    if images is None:
        return [[]], False
    if not isinstance(images, list | tuple):
        return [[cast(Picture, images)]], False
    nested = [isinstance(entry, list | tuple) for entry in images]
    if any(nested) and not all(nested):
        raise InputError("images mixes pictures and lists of pictures; pass a list for each batch entry")
    if any(nested):
        return [list(entry) for entry in images], True
    return [list(images)], False


def _batch_size(words: str | Sequence[str] | None, num_lists: int | None, num_embeds: int | None) -> int:
    """B, from whatever comes as a batch; everything else serves all entries."""
    sizes = {
        "texts": None if words is None or isinstance(words, str) else len(words),
        "lists of images": num_lists,
        "prompt embeddings": num_embeds,
    }
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(set(given.values())) > 1 or 0 in given.values():
        described = ", ".join(f"{size} {name}" for name, size in given.items())
        raise InputError(f"a batch needs as many of each, at least 1; received {described}")
    return next(iter(given.values()), 1)


def _pictures(found: Task | None, entries: list[list[Picture]]) -> list[list[Image.Image]]:
    """All pictures as "RGBA" images, checked against the task's slots and against each other."""
    pictures = []
    for entry in entries:
        slots: Sequence[str] = () if found is None else found.inputs
        if found is not None:
            found.check_images(len(entry))
        # "foregrounds" may hold several pictures, but is never followed by a guide.
        guides = [slot if slot in GUIDES else None for slot in slots] + [None] * (len(entry) - len(slots))
        images = [
            as_image(picture) if guide is None else as_guide(picture, guide)
            for picture, guide in zip(entry, guides, strict=True)
        ]
        _check_equal_sizes(found, images)
        pictures.append(images)
    sizes = [[image.size for image in entry] for entry in pictures]
    for other in sizes:
        if other != sizes[0]:
            raise InputError(
                f"the entries of a batch share number and sizes of their pictures, received {sizes[0]} and {other}; "
                "run different ones separately"
            )
    return pictures


def _shared(pictures: list[list[Image.Image]]) -> list[list[Image.Image]]:
    """Equal pictures as one object, so that what is made of them is made once."""
    if sum(map(len, pictures)) < 2:
        return pictures
    first: dict[tuple[Size, bytes], Image.Image] = {}
    return [[first.setdefault((image.size, image.tobytes()), image) for image in entry] for entry in pictures]


def _check_equal_sizes(found: Task | None, images: list[Image.Image]) -> None:
    if found is None:
        return
    for slot, image in zip(found.inputs[1:], images[1:], strict=False):
        if image.size != images[0].size:
            (width, height), (first_width, first_height) = image.size, images[0].size
            raise InputError(
                f"the {slot} is {width}×{height} pixels but the {found.inputs[0]} is {first_width}×{first_height}; "
                "pass pictures of one size"
            )


def _area_limit(request: Request, profile: Profile) -> int | None:
    """The largest working area of one picture by the profile's limits, in pixels."""
    limits = [profile.max_area]
    if profile.max_total_area is not None:
        limits.append(profile.max_total_area // (request.num_inputs + request.num_targets))
    return min((limit for limit in limits if limit is not None), default=None)
