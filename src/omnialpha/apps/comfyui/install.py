"""Make the nodes known to a ComfyUI: a folder of custom nodes that imports them from this package, and workflows."""

import shutil
from pathlib import Path

from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_folder

WORKFLOWS = Path(__file__).parent / "workflows"
NAME = "comfyui_omnialpha"  # not "omnialpha": the folder is a module itself

ENTRY = '''"""OmniAlpha's nodes, from the package installed in ComfyUI's Python. Written by `omnialpha comfyui`."""

from omnialpha.apps.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
'''


def install(comfyui: Path) -> Path:
    """Write ``custom_nodes/comfyui_omnialpha``; one that is there is replaced.

    Args:
        comfyui: ComfyUI's folder, which holds ``custom_nodes``.

    Returns:
        The folder written.

    Raises:
        InputError: It is not such a folder.
        OutputError: It cannot be written.
    """
    if not (comfyui / "custom_nodes").is_dir():
        raise InputError(f"{comfyui}: holds no folder custom_nodes; give the folder of a ComfyUI")
    folder = comfyui / "custom_nodes" / NAME
    if folder.exists() and not _ours(folder):
        raise InputError(f"{folder}: was not written by this command; rename it first")
    with atomic_folder(folder) as temporary:
        (temporary / "__init__.py").write_text(ENTRY, encoding="utf-8")
        # ComfyUI offers what lies in this folder under "Browse Templates".
        shutil.copytree(WORKFLOWS, temporary / "example_workflows")
    return folder


def _ours(folder: Path) -> bool:
    """Whether the nodes of a folder are those of this package."""
    entry = folder / "__init__.py"
    return entry.is_file() and "omnialpha.apps.comfyui" in entry.read_text(encoding="utf-8", errors="replace")
