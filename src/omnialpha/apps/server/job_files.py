"""The files of jobs: decoded pictures while they wait, results as folders of PNGs.

Names are job ids, which are made here; nothing that a client sends is ever part of a path.
"""

import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.imaging.files import atomic_folder
from omnialpha.imaging.layers import LayerStack

_STALE = 3600.0  # seconds after which a folder that belongs to no job is the rest of a killed process


class JobFiles:
    """The folders `inputs`, `results` and `uploads` of a data folder.

    Args:
        folder: The data folder; made when it does not exist.

    Attributes:
        uploads: For what is being received or sent.
    """

    def __init__(self, folder: Path) -> None:
        self.uploads = folder / "uploads"
        self._inputs, self._results = folder / "inputs", folder / "results"
        for path in (self.uploads, self._inputs, self._results):
            path.mkdir(parents=True, exist_ok=True)

    def store_pictures(self, job_id: str, pictures: Sequence[np.ndarray]) -> None:
        """Store the (H, W, 4) `uint8` pictures of a job as arrays: they were decoded once, and are not again.

        Raises:
            OutputError: They cannot be written.
        """
        if pictures:
            with atomic_folder(self._inputs / job_id) as temporary:
                for index, pixels in enumerate(pictures):
                    np.save(temporary / f"{index}.npy", pixels, allow_pickle=False)

    def pictures(self, job_id: str) -> list[Image.Image]:
        """The "RGBA" pictures of a job, in order."""
        files = sorted((self._inputs / job_id).glob("*.npy"), key=lambda path: int(path.stem))
        return [Image.fromarray(np.load(path, allow_pickle=False)) for path in files]

    def forget_pictures(self, job_id: str) -> None:
        """Delete the pictures of a job that needs them no more."""
        shutil.rmtree(self._inputs / job_id, ignore_errors=True)

    def store_result(self, job_id: str, stack: LayerStack) -> None:
        """Store the layers of a job.

        Raises:
            OutputError: They cannot be written.
        """
        stack.save(self._results / job_id, overwrite=True)

    def result(self, job_id: str) -> LayerStack:
        """The layers of a job.

        Raises:
            ImageError: They are not there, or damaged.
        """
        return LayerStack.open(self._results / job_id)

    def sweep(self, forgotten: Collection[str], unfinished: Collection[str], done: Collection[str]) -> None:
        """Delete the files of forgotten jobs, and what killed processes left behind an hour ago or more."""
        for folder, needed in ((self._inputs, unfinished), (self._results, done), (self.uploads, ())):
            for path in folder.iterdir():
                if path.name in forgotten or (path.name not in needed and _is_stale(path)):
                    shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE
    except FileNotFoundError:  # another process was faster
        return False
