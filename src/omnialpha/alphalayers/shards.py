"""Files of a published data set: Parquet as Hugging Face's `datasets` reads it, or tar files as WebDataset reads them.

Both take one sample at a time and hold little of it: what is in memory does not depend on the size of the data set.
Equal samples give equal bytes: no clock, user or host enters a file.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from omnialpha.alphalayers.finished import MASKS, Finished
from omnialpha.errors import InputError
from omnialpha.extras import require

PICTURES = ("foreground", "background", "composite", *MASKS)
TEXTS = (
    *("foreground_caption", "background_caption", "composite_caption", "instruction"),
    *("source", "licence", "identity"),
)
NUMBERS = ("score", "foreground_error", "recomposite_error")

GROUP_BYTES = 16 * 2**20
"""Pictures in a row group: what a reader has to load to see one row, and what a writer holds."""
_GROUP_ROWS = 100  # as many as the hub's own exports have at most


class Shard(Protocol):
    """A file being written; leaving the `with` block completes it."""

    def __enter__(self) -> "Shard": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, sample: Finished) -> None:
        """Append a sample."""


class ParquetShard:
    """A Parquet file; pictures are {"bytes", "path"} and the schema says so to `datasets`.

    Args:
        file: To write.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, file: Path) -> None:
        self._arrow = require("pyarrow", "alphalayers")
        self._schema = _schema(self._arrow)
        self._writer = require("pyarrow.parquet", "alphalayers").ParquetWriter(
            file,
            self._schema,
            # Encoded pictures neither repeat nor compress, and their smallest and largest value mean nothing.
            use_dictionary=["source", "licence"],
            write_statistics=["id", *NUMBERS],
        )
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def __enter__(self) -> "ParquetShard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def add(self, sample: Finished) -> None:
        """Append a row."""
        row: dict[str, Any] = {"id": sample.sample.id, **sample.texts, **sample.numbers}
        for name, file in sample.pictures.items():
            row[name] = {"bytes": file.read_bytes(), "path": f"{sample.sample.id}.{name}{file.suffix}"}
            self._bytes += len(row[name]["bytes"])
        self._rows.append(row)
        if self._bytes >= GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write the waiting rows as a row group."""
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0


class TarShard:
    """A tar file in which the files of a sample follow each other: `<id>.foreground.png`, …, `<id>.json`.

    Args:
        file: To write.
    """

    def __init__(self, file: Path) -> None:
        self._tar = tarfile.open(file, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "TarShard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def add(self, sample: Finished) -> None:
        """Append a sample's files.

        Raises:
            InputError: The id cannot be told from the name of the file.
        """
        key = sample.sample.id
        if "." in key or "/" in key:
            raise InputError(f'WebDataset wants ids without "." and "/", not {key!r}; rename it, or publish as parquet')
        for name, file in sample.pictures.items():
            self._append(f"{key}.{name}{file.suffix}", file.read_bytes())
        known: dict[str, Any] = {"id": key, **sample.texts, **sample.numbers}
        self._append(f"{key}.json", json.dumps(known, sort_keys=True, ensure_ascii=False).encode())

    def _append(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # its time is 0 and it belongs to nobody
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        self._tar.members.clear()  # type: ignore[attr-defined]  # else the names of all files are kept


def features() -> list[dict[str, str]]:
    """The columns as a dataset card lists them."""
    return [
        {"name": "id", "dtype": "string"},
        *({"name": name, "dtype": "image"} for name in PICTURES),
        *({"name": name, "dtype": "string"} for name in TEXTS),
        *({"name": name, "dtype": "float64"} for name in NUMBERS),
    ]


def _schema(arrow: Any) -> Any:
    """The columns as pyarrow and `datasets` want them."""
    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    types = {"string": arrow.string(), "image": picture, "float64": arrow.float64()}
    known: dict[str, Mapping[str, str]] = {
        column["name"]: {"_type": "Image"}
        if column["dtype"] == "image"
        else {"dtype": column["dtype"], "_type": "Value"}
        for column in features()
    }
    described = json.dumps({"info": {"features": known}})
    fields = [(column["name"], types[column["dtype"]]) for column in features()]
    return arrow.schema(fields, metadata={"huggingface": described})
