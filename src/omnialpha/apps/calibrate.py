"""`omnialpha calibrate`: measure the ratios that step caching with "magcache" needs, into the checkpoint's profile."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnialpha.apps.jobs import expand
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.checkpoints import PROFILE_NAME, choose_device, choose_dtype, open_folders
from omnialpha.errors import InputError
from omnialpha.hub import CHECKPOINTS, locate
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write
from omnialpha.models.profile import Profile
from omnialpha.models.step_cache import magnitude_ratios, residual_norms
from omnialpha.pipeline import OmniAlphaPipeline

TASKS = ("matting_auto", "decomposition_auto")
"""One with a single target and one with several."""


def calibrate(
    pictures: Sequence[Path],
    *,
    model: str,
    adapter: str | None = None,
    steps: int = 50,
    device: str | None = None,
    dtype: str | None = None,
) -> Path:
    """Measure a checkpoint's ratios and write them into its folder.

    Args:
        pictures: Files or folders; when empty, the pictures of the studio's examples.
        model: As for `omnialpha.load`, but a copy of one's own: the hub's cache is shared with other programs.
        adapter: Likewise.
        steps: Sampling steps at which to measure; calls with another number use interpolated ratios.
        device: As for `omnialpha.load`.
        dtype: Likewise.

    Returns:
        The file that holds the ratios now: the adapter's profile, or the index of the pipeline.

    Raises:
        InputError: The checkpoint is in the hub's cache, or steps are too few.
        CheckpointError: It cannot be loaded.
    """
    if steps < 2:
        raise InputError(f"ratios compare a step with the one before; --steps is at least 2, received {steps}")
    _require_own_folder(model, adapter)
    base, adapter_folder = locate(model, adapter)
    target = choose_device(device)
    pipe = open_folders(base, adapter_folder, choose_dtype(dtype, target)).to(target)
    pipe.set_progress_bar_config(disable=True)
    ratios = measure(pipe, expand(pictures) or [example.files[0] for example in EXAMPLES], steps)
    file = base / "model_index.json" if adapter_folder is None else adapter_folder / PROFILE_NAME
    _write_ratios(file, pipe.profile, ratios)
    return file


def measure(pipe: OmniAlphaPipeline, pictures: Sequence[Path], steps: int) -> list[float]:
    """The geometric mean of the ratios over pictures and tasks, with the guidance that the profile asks for.

    Args:
        pipe: The model.
        pictures: Files.
        steps: Sampling steps.

    Raises:
        ImageError: A picture cannot be read.
    """
    logarithms = []
    for picture in pictures:
        image = rgba.read(picture)
        for task in TASKS:
            with residual_norms(pipe.transformer) as norms:
                pipe(task=task, images=[image], seed=0, num_inference_steps=steps, output_type="latent")
            logarithms.append(np.log(magnitude_ratios(norms, steps)))
    return [round(float(ratio), 5) for ratio in np.exp(np.mean(logarithms, axis=0))]


def _require_own_folder(model: str, adapter: str | None) -> None:
    """Refuse what `locate` would find in the hub's cache."""
    embedded = model in CHECKPOINTS and CHECKPOINTS[model].base is None
    kept = model if adapter is None else adapter
    if not Path(kept).expanduser().is_dir() and not (embedded and adapter is None):
        raise InputError(
            f'"{kept}" is kept in the hub\'s cache, which other programs share; make a copy of your own '
            "(hf download OWNER/NAME --local-dir FOLDER) and name its folder"
        )


def _write_ratios(file: Path, profile: Profile, ratios: list[float]) -> None:
    """Replace the profile in a pipeline's index, or an adapter's profile, which is a file of its own."""
    values = dataclasses.replace(profile, mag_ratios=tuple(ratios)).to_dict()
    if file.name != PROFILE_NAME:
        values = json.loads(file.read_text(encoding="utf-8")) | {"profile": values}
    with atomic_write(file, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
