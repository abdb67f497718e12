"""Methods to compare with that need no training: one alpha for all, trimap matting, inpainting, U²-Net from a file.

`baseline(name)` gives one by the name that `--method` takes:

    constant, constant:0.3      the same alpha everywhere, 0.5 by default
    closed_form, knn            alpha from a trimap, PyMatting's solvers
    telea, navier_stokes        OpenCV's inpainting under a mask
    onnx:u2net.onnx             a salient-object network with U²-Net's input and output
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omnialpha.errors import InputError, nearest
from omnialpha.extras import require
from omnialpha.imaging.refine import foreground_colours
from omnialpha.imaging.rgba import to_array, to_pil
from omnialpha.tasks import TASKS
from omnialpha.tasks import task as find_task

_EXTRA = "baselines"
_INPAINTING_RADIUS = 3  # pixels; what OpenCV's documentation uses
_PRESENT = 0.05  # from this alpha on there is something to remove (Ω of Appendix B.1)
_U2NET_SIDE = 320
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

Solve = Callable[..., np.ndarray]
"""(composite ``(H, W, 3)``, guide ``(H, W)`` if the task has one) to a layer ``(H, W, 4)``; all floats in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A method that makes one layer from a picture and at most one guide.

    Attributes:
        name: What was asked for.
        tasks: Ids of the tasks it can do.
        solve: Does it.
        settings: Stated with the results.
    """

    name: str
    tasks: tuple[str, ...]
    solve: Solve
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, *, task: str, images: Sequence[Image.Image], text: str | None = None, num_targets: int = 1, seed: int = 0
    ) -> list[Image.Image]:
        """Do a task; the signature that every method has.

        Args:
            task: Id of the task.
            images: Its inputs in slot order, all of one size.
            text: Ignored: none of the tasks here takes one.
            num_targets: 1.
            seed: Ignored: nothing is drawn.

        Returns:
            One "RGBA" layer of the inputs' size.

        Raises:
            InputError: It cannot do the task, or the inputs do not fit it.
        """
        if task not in self.tasks:
            raise InputError(
                f"{self.name} does {', '.join(self.tasks)}, not {task}; choose with --task, or another method"
            )
        found = find_task(task)
        found.check_images(len(images))
        found.num_targets(num_targets)
        if len({image.size for image in images}) > 1:
            sizes = ", ".join(f"{image.width}×{image.height}" for image in images)
            raise InputError(f"{self.name} needs pictures of one size, received {sizes}; resize the guide first")
        composite, *guides = (to_array(image) for image in images)
        return [to_pil(self.solve(composite[..., :3], *(guide[..., 0] for guide in guides)))]


def baseline(name: str) -> Baseline:
    """Look a method up.

    Args:
        name: As listed at the top of this module.

    Raises:
        InputError: There is no such method, or its argument is no alpha or no usable file.
        MissingExtraError: It needs the extra "baselines".

    >>> layer, = baseline("constant:0.2")(task="matting_auto", images=[Image.new("RGB", (2, 2), "red")])
    >>> layer.getpixel((0, 0))
    (255, 0, 0, 51)
    """
    kind, _, argument = name.partition(":")
    if kind not in _MAKERS:
        known = f"; known: {', '.join(_MAKERS)}"
        raise InputError(f'unknown method "{name}"{nearest(kind, _MAKERS) or known}')
    if argument and kind not in ("constant", "onnx"):
        raise InputError(f'{kind} takes no argument, received "{argument}"; write {kind}')
    return _MAKERS[kind](name, argument)


def _constant(name: str, argument: str) -> Baseline:
    try:
        value = float(argument or 0.5)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f'constant takes an alpha from 0 to 1, received "{argument}"; write for example constant:0.3')

    def solve(composite: np.ndarray, *guide: np.ndarray) -> np.ndarray:
        return np.dstack([composite, np.full(composite.shape[:2], value, np.float32)])

    tasks = tuple(task.id for task in TASKS.values() if task.category == "matting" and task.text is None)
    return Baseline(name=name, tasks=tasks, solve=solve, settings={"alpha": value})


def _trimap_matting(name: str, argument: str) -> Baseline:
    module = {"closed_form": "cf", "knn": "knn"}[name]
    estimate = getattr(require(f"pymatting.alpha.estimate_alpha_{module}", _EXTRA), f"estimate_alpha_{module}")

    def solve(composite: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        alpha = _solve_alpha(name, estimate, composite, trimap)
        return np.dstack([foreground_colours(composite, alpha), alpha])

    settings = {"pymatting": require("pymatting", _EXTRA).__version__}
    return Baseline(name=name, tasks=("matting_trimap",), solve=solve, settings=settings)


def _solve_alpha(name: str, estimate: Solve, composite: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Alpha ``(H, W)`` ``float32``.

    A trimap that knows nothing of one side, as those of glass often do, leaves the equations a constant solution, which
    the solvers refuse to look for.
    """
    known = np.rint(trimap * 2) / 2
    has_foreground, has_background = (known == 1).any(), (known == 0).any()
    if not (has_foreground and has_background):
        value = 0.5 if has_foreground == has_background else float(has_foreground)
        return np.full(trimap.shape, value, np.float32)
    if not (known == 0.5).any():
        return known.astype(np.float32)
    try:
        alpha = estimate(composite.astype(np.float64), known.astype(np.float64))
    except ValueError as error:  # the solver did not converge
        raise InputError(f"{name} finds no solution for this picture ({error}); try the other trimap method") from error
    return np.clip(alpha, 0, 1).astype(np.float32)


def _inpainting(name: str, argument: str) -> Baseline:
    cv2 = require("cv2", _EXTRA)
    algorithm = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[name]

    def solve(composite: np.ndarray, guide: np.ndarray) -> np.ndarray:
        pixels = np.rint(composite * 255).astype(np.uint8)
        mask = (guide > _PRESENT).astype(np.uint8)
        filled = cv2.inpaint(np.ascontiguousarray(pixels), mask, _INPAINTING_RADIUS, algorithm)
        return np.dstack([filled / 255, np.ones(guide.shape)])

    tasks = tuple(task.id for task in TASKS.values() if task.category == "removal" and len(task.inputs) == 2)
    settings = {"radius": _INPAINTING_RADIUS, "opencv": cv2.__version__}
    return Baseline(name=name, tasks=tasks, solve=solve, settings=settings)


def _onnx(name: str, argument: str) -> Baseline:
    path = Path(argument).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file; write onnx:FILE with a U²-Net in ONNX format")
    runtime = require("onnxruntime", _EXTRA)
    try:
        session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
    except Exception as error:  # onnxruntime has a class of its own for each way in which a file can be broken
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is no model that onnxruntime can read ({reason}); export it again") from error
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)  # free dimensions are names or None
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or (isinstance(shape[0], int) and shape[0] != 1):
        received = ", ".join(str(each.shape) for each in inputs)
        raise InputError(f"{path}: takes {received}, not one RGB picture [1, 3, H, W]; export a U²-Net")
    height, width = (side if isinstance(side, int) else _U2NET_SIDE for side in shape[2:])
    solve = partial(_salient, session, inputs[0].name, (width, height))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = {"file": path.name, "sha256": digest, "size": [width, height], "onnxruntime": runtime.__version__}
    return Baseline(name=name, tasks=("matting_auto",), solve=solve, settings=settings)


def _salient(session: Any, input_name: str, size: tuple[int, int], composite: np.ndarray) -> np.ndarray:
    """Run a salient-object network as U²-Net's authors do: brightest value to 1, ImageNet's scale, min-max output."""
    picture = to_pil(composite).convert("RGB")
    small = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32)
    pixels = (small / max(float(small.max()), 1e-6) - _IMAGENET_MEAN) / _IMAGENET_STD
    [output] = session.run(
        [session.get_outputs()[0].name], {input_name: pixels.transpose(2, 0, 1)[None].astype(np.float32)}
    )
    saliency = output[0, 0]
    span = float(saliency.max() - saliency.min())
    alpha = (saliency - saliency.min()) / (span if span > 0 else 1)
    full = Image.fromarray(alpha.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    return np.dstack([composite, np.clip(np.asarray(full), 0, 1)])


_MAKERS: Mapping[str, Callable[[str, str], Baseline]] = {
    "constant": _constant,
    "closed_form": _trimap_matting,
    "knn": _trimap_matting,
    "telea": _inpainting,
    "navier_stokes": _inpainting,
    "onnx": _onnx,
}
