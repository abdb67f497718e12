"""Pictures to try, which come with the package; sources and licences are in `pictures/LICENSES.md`."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One run with everything it needs.

    Attributes:
        label: What the page calls it.
        task: Id of the task.
        images: Files in `FOLDER`, in the order of the task's input slots.
        text: Caption, for tasks that take one.
    """

    label: str
    task: str
    images: tuple[str, ...] = ()
    text: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures' paths."""
        return tuple(FOLDER / name for name in self.images)


EXAMPLES = (
    Example(label="Separate layers", task="decomposition_auto", images=("barrel.jpg",)),
    Example(label="Cut out, with a trimap", task="matting_trimap", images=("lemur.jpg", "lemur_trimap.png")),
    Example(label="Cut out", task="matting_auto", images=("orca.jpg",)),
    Example(label="Remove", task="removal_precise_mask", images=("mailbox.jpg", "mailbox_mask.png")),
    Example(
        label="Add a background",
        task="foreground_to_background",
        images=("chair.webp",),
        text="a green meadow under a blue sky",
    ),
)
