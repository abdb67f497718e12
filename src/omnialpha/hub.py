"""Where weights are: inside the package, in a folder, or on the Hugging Face hub (downloaded once, then cached).

`locate` turns whatever names a checkpoint into folders. Downloads go through the ordinary hub client: it shows
progress, keeps a cache that other programs share, takes up an interrupted download where it stopped, and honours
``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE``. This module imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from omnialpha.errors import CheckpointError, InputError, nearest

EMBEDDED = Path(__file__).parent / "assets"
"""Folder of the checkpoints inside the package."""

# One level down only: repositories often repeat their weights in one large file at the top.
PIPELINE_FILES = ("model_index.json", "*/*.json", "*/*.txt", "*/*.jinja", "*/*.safetensors")
RGB_VAE = ("vae/*",)  # what an adapter replaces
ADAPTER_FILES = ("rgba_vae/*", "lora/*", "profile.json")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that has a name.

    Attributes:
        name: what to pass to `omnialpha.load`.
        base: hub id of the pipeline; None for one inside the package.
        adapter: hub id of the adapter that turns the base into OmniAlpha.
        summary: one line for users.
        licence: under which terms the weights come.
        download_gb: about how much is downloaded, in GB.
    """

    name: str
    base: str | None
    adapter: str | None
    summary: str
    licence: str
    download_gb: float


CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    {
        "nano": Checkpoint(
            name="nano",
            base=None,
            adapter=None,
            summary="small model inside the package; runs on a laptop without GPU",
            licence="Apache-2.0; see its model card for the training data",
            download_gb=0.0,
        ),
        "omnialpha": Checkpoint(
            name="omnialpha",
            base="Qwen/Qwen-Image-Edit-2509",
            adapter="Longin-Yu/OmniAlpha",
            summary="the authors' released weights: 20B transformer, 7B VLM, RGBA VAE and LoRA",
            licence="base Apache-2.0; adapter without a stated licence, ask its authors",
            download_gb=60.0,
        ),
    }
)
"""The checkpoints that have a name."""


def locate(name: str | Path, adapter: str | Path | None = None) -> tuple[Path, Path | None]:
    """Find a checkpoint's folders, downloading what is not there yet.

    Args:
        name: "nano", "omnialpha", a folder, or a hub id "owner/name".
        adapter: folder or hub id of an adapter.

    Returns:
        Folder of the pipeline and folder of the adapter, None when there is none.

    Raises:
        InputError: the name is neither known nor a folder nor a possible hub id.
        CheckpointError: the weights are not there and cannot be downloaded.
    """
    # A known name wins over a folder of that name, which can still be written as a path: "./nano".
    known = CHECKPOINTS.get(name) if isinstance(name, str) else None
    if known is None:
        base = folder_or_fetch(name, PIPELINE_FILES, skip=() if adapter is None else RGB_VAE)
    elif known.base is None:
        base = EMBEDDED / known.name
        if not (base / "model_index.json").is_file():
            raise CheckpointError(f'the embedded checkpoint "{known.name}" is missing from {base}; reinstall omnialpha')
    else:
        base = fetch(known.base, PIPELINE_FILES, skip=RGB_VAE)
    if known is not None and adapter is None:
        adapter = known.adapter
    return base, None if adapter is None else folder_or_fetch(adapter, ADAPTER_FILES)


def fetch(repo: str, files: Sequence[str], *, skip: Sequence[str] = ()) -> Path:
    """Download a repository's files into the hub cache, or find them there.

    Args:
        repo: hub id "owner/name".
        files: glob patterns of the files to fetch.
        skip: glob patterns of files to leave out.

    Returns:
        The folder in the cache.

    Raises:
        CheckpointError: the repository does not exist, needs an account, or cannot be reached; the message says what
            to do. A download that breaks off goes on from there the next time.
    """
    try:
        return Path(snapshot_download(repo, allow_patterns=list(files), ignore_patterns=list(skip)))
    except GatedRepoError as error:
        raise CheckpointError(
            f'"{repo}" needs an account on the hub: accept its terms there, then run: hf auth login'
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f'"{repo}" does not exist on the hub (or is private); check the name') from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(_offline_message(repo, error)) from error
    except (HTTPError, OSError) as error:
        raise CheckpointError(
            f'downloading "{repo}" broke off ({_first_line(error)}); run the same again, it goes on from there'
        ) from error


def folder_or_fetch(name: str | Path, files: Sequence[str], skip: Sequence[str] = ()) -> Path:
    """A folder as it is, a hub id through the cache.

    Args:
        name: folder or hub id "owner/name".
        files: glob patterns of the files to fetch from the hub.
        skip: glob patterns of files to leave out.

    Raises:
        InputError: the name is neither a folder nor a possible hub id.
        CheckpointError: the files are not there and cannot be downloaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder}: is a file where a checkpoint folder was expected")
    if isinstance(name, Path) or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise CheckpointError(f"{folder}: no such folder; expected a checkpoint folder, a hub id or a known name")
    if "/" not in name:
        known = ", ".join(f'"{known}"' for known in CHECKPOINTS)
        raise InputError(
            f'unknown model "{name}"{nearest(name, CHECKPOINTS)}; expected {known}, a folder, or a hub id "owner/name"'
        )
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f'"{name}" is neither a folder nor a hub id "owner/name"') from error
    return fetch(name, files, skip=skip)


def locate_file(name: str | Path) -> Path:
    """Find one file, downloading it where it is not there yet.

    Args:
        name: a path, or "owner/name/path/in/the/repository" on the hub.

    Raises:
        CheckpointError: it is neither here nor there, or cannot be downloaded.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    owner, *rest = str(name).split("/")
    if isinstance(name, Path) or not owner or owner.startswith((".", "~")) or Path(owner).is_dir() or len(rest) < 2:
        raise CheckpointError(f'{path}: no such file; expected a file, or "owner/name/path" of one on the hub')
    repo, file = f"{owner}/{rest[0]}", "/".join(rest[1:])
    found = folder_or_fetch(repo, (file,)) / file
    if not found.is_file():
        raise CheckpointError(f'"{repo}" on the hub has no file "{file}"; check the name')
    return found


def _offline_message(repo: str, error: Exception) -> str:
    """Why a repository is not in the cache, and what to do about it."""
    cause = error.__cause__
    reason = "HF_HUB_OFFLINE is set" if isinstance(cause, OfflineModeIsEnabled) else "the hub cannot be reached"
    return (
        f'"{repo}" is not (completely) in the local cache and {reason}; '
        "go online once to download it, or pass the path of a folder that holds it"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
