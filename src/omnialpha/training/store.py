"""Named tensors in a folder of safetensors files: added to for as long as one likes, never half written."""

from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write

SHARD_BYTES = 64 << 20
"""Size at which a file is written: what an interruption can cost, and what a reader maps at a time."""


class TensorStore:
    """Tensors under names in `shard-*.safetensors`.

    Args:
        folder: made when it does not exist.

    Raises:
        InputError: a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: dict[Path, Any] = {}

    @cached_property
    def _places(self) -> dict[str, Path]:
        """Which file holds which tensor; only headers are read."""
        files = sorted(self.folder.glob("shard-*.safetensors"))
        return {name: file for file in files for name in sorted(self._open(file).keys())}

    def __contains__(self, name: str) -> bool:
        return name in self._pending or name in self._places

    def __len__(self) -> int:
        return len(self._places) + len(self._pending)

    def add(self, name: str, tensor: Tensor) -> None:
        """Put a tensor in; it is on disk after the next `flush`, which comes by itself every 64 MiB."""
        # Copied: a row of a batch would keep the whole batch alive, and safetensors refuses tensors that share memory.
        self._pending[name] = tensor.detach().to("cpu", copy=True).contiguous()
        self._pending_bytes += tensor.nbytes
        if self._pending_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time as one more file."""
        if not self._pending:
            return
        files = {*self.folder.glob("shard-*.safetensors")}
        numbers = (self.folder / f"shard-{number:05d}.safetensors" for number in count(len(files)))
        file = next(file for file in numbers if file not in files)
        with atomic_write(file) as temporary:
            save_file(self._pending, temporary)
        self._places.update(dict.fromkeys(self._pending, file))
        self._pending, self._pending_bytes = {}, 0
        self._open(file)

    def read(self, name: str) -> Tensor:
        """A tensor from disk.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self._places:
            raise InputError(f"{self.folder}: no tensor {name}; run `omnialpha train cache` again")
        tensor: Tensor = self._open(self._places[name]).get_tensor(name)
        return tensor

    def _open(self, file: Path) -> Any:
        if file not in self._shards:
            try:
                self._shards[file] = safe_open(file, framework="pt")
            except (OSError, SafetensorError) as error:
                raise InputError(
                    f"{file}: damaged ({error}); delete it and run `omnialpha train cache` again"
                ) from error
        return self._shards[file]
