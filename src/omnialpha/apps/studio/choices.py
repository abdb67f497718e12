"""The 21 tasks as an artist chooses them: what to do, then how to say where the object is or what is missing."""

from dataclasses import dataclass

from omnialpha.request import GUIDES
from omnialpha.tasks import CATEGORIES, SEVERAL, TASKS, Task

PAINTED = tuple(guide for guide in GUIDES if guide != "alpha")
"""Guides that can be painted; an alpha matte has too many shades for a brush."""

FAMILIES = {
    "decomposition": "Separate layers",
    "matting": "Cut out",
    "removal": "Remove",
    "completion": "Complete",
    "text_to_image": "Create",
}
"""Category of tasks → what the page calls it, in the page's order."""

_WAYS = {
    "auto": "Find it for me",
    "text": "Describe it",
    "rough_mask": "Paint roughly",
    "precise_mask": "Paint exactly",
    "trimap": "Paint a trimap",
    "alpha": "Give an alpha matte",
}
_SLOTS = {"foreground": "object", SEVERAL: "cut-out", "background": "background", "composite": "whole picture"}

assert set(FAMILIES) == set(CATEGORIES)


@dataclass(frozen=True)
class Way:
    """One choice within a family.

    Attributes:
        label: What the page calls it.
        task: Id of the task.
    """

    label: str
    task: str


def ways(category: str) -> list[Way]:
    """The choices within a family, the easiest first.

    >>> [way.label for way in ways("removal")][:3]
    ['Find it for me', 'Paint roughly', 'Paint exactly']
    >>> [way.label for way in ways("completion")][0]
    'I have a cut-out, missing is the background'
    """
    tasks = [task for task in TASKS.values() if task.category == category]
    order = list(_WAYS)
    found = []
    for task in tasks:
        kind = task.id.removeprefix(f"{category}_")
        if kind in _WAYS:
            found.append((order.index(kind), Way(_WAYS[kind], task.id)))
        elif task.inputs:
            found.append((len(found), Way(_completion_label(task), task.id)))
        else:
            found.append((0, Way("From words", task.id)))
    return [way for _, way in sorted(found, key=lambda pair: pair[0])]


def guide_of(task: Task) -> str | None:
    """The input slot of a task that says where the object is; None when there is none.

    >>> guide_of(TASKS["matting_trimap"]), guide_of(TASKS["matting_text"])
    ('trimap', None)
    """
    return next((slot for slot in task.inputs if slot in GUIDES), None)


def _completion_label(task: Task) -> str:
    given, wanted = task.inputs[0], task.targets[0]
    missing = "object" if wanted == SEVERAL else _SLOTS[wanted]
    return f"I have a {_SLOTS[given]}, missing is the {missing}"
