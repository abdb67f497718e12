"""From the words of the command line to a list of jobs: one task on one set of pictures each.

Files are only named here, not opened: a picture that cannot be read fails alone, when its turn comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnialpha.apps.settings import Guides
from omnialpha.errors import InputError
from omnialpha.tasks import Task, task

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One task on one set of pictures.

    Attributes:
        task: What to do.
        images: Files in the order of the task's input slots.
        text: Caption, for tasks that take one.
        num_targets: Number of layers to generate; None leaves it to the task.

    Raises:
        InputError: Number of pictures or layers, or the text, do not fit the task.
    """

    task: Task
    images: tuple[Path, ...] = ()
    text: str | None = None
    num_targets: int | None = None

    def __post_init__(self) -> None:
        self.task.check_images(len(self.images))
        self.task.num_targets(self.num_targets)
        self.task.prompt(self.text)

    @property
    def stem(self) -> str:
        """What the result is called after: the first picture, else the text."""
        if self.images:
            return self.images[0].stem
        from omnialpha.data.naming import slug

        return slug(self.text or self.task.id)[:40].rstrip("-")

    @property
    def name(self) -> str:
        """What the job is called in messages."""
        return str(self.images[0]) if self.images else f'"{self.text}"'


def guided_jobs(
    category: str,
    images: Sequence[Path],
    guides: Guides,
    *,
    text: str | None = None,
    num_targets: int | None = None,
) -> list[Job]:
    """Make one job per picture for a category whose tasks differ in what says where the object is.

    Args:
        category: "matting", "removal" or "decomposition".
        images: Files and folders.
        guides: Each a file, or a folder with a file of the same stem for each picture.
        text: Caption of the object, instead of a guide.
        num_targets: Number of layers.

    Raises:
        InputError: More than one guide, one guide file for several pictures, no picture at all.
    """
    given = {slot: path for slot, path in vars(guides).items() if path is not None}
    named = [*given, *(["text"] if text is not None else [])]
    if len(named) > 1:
        options = " and ".join(f"--{'mask' if name == 'precise_mask' else name.replace('_', '-')}" for name in named)
        raise InputError(f"received {options}; give one of them")
    pictures = expand(images)
    found = task(f"{category}_{named[0] if named else 'auto'}")
    jobs = []
    for picture in pictures:
        guide = tuple(_guide_for(picture, path, alone=len(pictures) == 1) for path in given.values())
        jobs.append(Job(task=found, images=(picture, *guide), text=text, num_targets=num_targets))
    return jobs


def expand(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the pictures in them, sorted by name.

    A path that does not exist is kept: it fails when its turn comes, and the others are done.

    Raises:
        InputError: A folder holds no picture.
    """
    pictures: list[Path] = []
    for path in paths:
        if not path.is_dir():
            pictures.append(path)
            continue
        inside = pictures_in(path)
        if not inside:
            raise InputError(f"{path}: holds no picture ({', '.join(PICTURES)}); give a folder of pictures, or files")
        pictures += inside
    return pictures


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder by their suffix, sorted by name, without hidden ones and folders inside."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))


def _guide_for(picture: Path, guide: Path, *, alone: bool) -> Path:
    """The guide of a picture: the file itself for a single picture, else the file of the same stem in a folder."""
    if not guide.is_dir():
        if alone:
            return guide
        raise InputError(f"{guide}: is one guide for several pictures; give a folder with one guide per picture")
    matching = sorted(p for p in guide.iterdir() if p.stem == picture.stem and p.suffix.lower() in PICTURES)
    # A missing guide must fail its own picture only: name the file that was looked for.
    return matching[0] if matching else guide / f"{picture.stem}.png"
