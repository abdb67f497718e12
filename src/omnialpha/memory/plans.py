"""The ways to hold a pipeline's weights: how the transformer's are stored, and what leaves the device while it is idle.

A plan is written ``storage``, ``offload`` or ``storage+offload``: "bf16", "model_offload", "nf4+model_offload". A GGUF
file of the transformer is a storage, too: "transformer-Q4_0.gguf+model_offload". This module imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from omnialpha.errors import InputError, nearest

CPU, CUDA = "cpu", "cuda"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How the transformer's weights are held.

    Attributes:
        summary: one line for users.
        devices: types of devices on which it runs.
        module: optional package that it needs; None: none.
        movable: its weights can be moved block by block (group offload).
    """

    summary: str
    devices: tuple[str, ...] = (CPU, CUDA)
    module: str | None = None
    movable: bool = False


STORAGES: Mapping[str, Storage] = MappingProxyType(
    {
        "full": Storage(summary="as the call says: bfloat16 on CUDA, float32 on the CPU", movable=True),
        "bf16": Storage(summary="bfloat16, computed in bfloat16", devices=(CPU,), movable=True),
        "bf16_layerwise": Storage(
            summary="bfloat16, cast layer by layer to compute in float32", devices=(CPU,), movable=True
        ),
        "int8": Storage(summary="8-bit integers with a scale for each row (torchao)", module="torchao"),
        "fp8_layerwise": Storage(summary="8-bit floats, cast layer by layer to compute", movable=True),
        "fp8": Storage(summary="8-bit floats with a scale for each row (torchao)", module="torchao"),
        "nf4": Storage(
            summary="4 bits with a scale for each 64 values (bitsandbytes)", devices=(CUDA,), module="bitsandbytes"
        ),
        "gguf": Storage(summary="a GGUF file of the transformer", module="gguf"),
    }
)
"""Name → storage, the most exact first."""

OFFLOADS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "": ("everything stays", (CPU, CUDA)),
        "model_offload": ("each model is on the device only while it works, else in main memory", (CUDA,)),
        "free_text_encoder": (
            "text encoder and transformer take turns: one is freed and the other read from its files",
            (CPU, CUDA),
        ),
        "group_offload": ("one block at a time is on the device; on the CPU the others are on disk", (CPU, CUDA)),
    }
)
"""Name → what it does, and the types of devices on which it makes sense."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to hold the weights.

    Attributes:
        storage: one of `STORAGES`.
        offload: one of `OFFLOADS`, empty for none.
        file: the GGUF file, for that storage.
    """

    storage: str = "full"
    offload: str = ""
    file: Path | None = None

    @property
    def name(self) -> str:
        """As it is written: "full", "nf4+model_offload".

        >>> Plan(storage="nf4", offload="model_offload").name, Plan().name
        ('nf4+model_offload', 'full')
        """
        return "+".join(part for part in (self.storage, self.offload) if part)


def parse(text: str) -> Plan:
    """Read a plan.

    Raises:
        InputError: a word is unknown, or the combination is not supported.

    >>> parse("nf4+model_offload")
    Plan(storage='nf4', offload='model_offload', file=None)
    >>> parse("model_offload").storage, parse("weights/q8.gguf").file.name
    ('full', 'q8.gguf')
    """
    words = text.split("+")
    files = [Path(word) for word in words if word.endswith(".gguf")]
    storages = ["gguf"] * len(files) + [word for word in words if word in STORAGES]
    offloads = [word for word in words if word in OFFLOADS]
    known = (*STORAGES, *filter(None, OFFLOADS))
    for word in words:
        if word not in known and not word.endswith(".gguf"):
            raise InputError(
                f'unknown memory plan "{word}"{nearest(word, known)}; '
                f'expected "auto", a .gguf file, or {", ".join(known)}, joined by "+"'
            )
    if len(storages) > 1 or len(offloads) > 1:
        raise InputError(f'memory plan "{text}" names two of a kind; take one storage and at most one offload')
    if storages == ["gguf"] and not files:
        raise InputError('memory plan "gguf" needs the file itself: memory="path/to/transformer.gguf"')
    plan = Plan(storage=(storages or ["full"])[0], offload=(offloads or [""])[0], file=next(iter(files), None))
    if plan.offload == "group_offload" and not STORAGES[plan.storage].movable:
        movable = ", ".join(name for name, storage in STORAGES.items() if storage.movable)
        raise InputError(f"group_offload moves plain weights only ({movable}), received {plan.storage}")
    return plan


def check_device(plan: Plan, device: str) -> None:
    """Refuse a plan that this type of device cannot carry out.

    Raises:
        InputError: the message names the devices that can.
    """
    for word, devices in ((plan.storage, STORAGES[plan.storage].devices), (plan.offload, OFFLOADS[plan.offload][1])):
        if device not in devices:
            instead = "group_offload" if word == "model_offload" else "fp8_layerwise"
            raise InputError(f'memory plan "{word}" runs on {" and ".join(devices)}, not on {device}; try "{instead}"')


def candidates(device: str, file: Path | None = None) -> list[Plan]:
    """All plans for a type of device.

    Args:
        device: "cpu" or "cuda".
        file: a GGUF file of the transformer, where there is one.
    """
    return [
        Plan(storage=storage, offload=offload, file=file if storage == "gguf" else None)
        for storage, how in STORAGES.items()
        for offload, (_, devices) in OFFLOADS.items()
        if device in how.devices
        and device in devices
        and (how.movable or offload != "group_offload")
        and (storage != "gguf" or file is not None)
    ]


def in_place(device: str) -> list[Plan]:
    """The plans that `apply.put_in_place` can carry out on a pipeline whose weights are in main memory already."""
    plain = ("full", "bf16_layerwise", "fp8_layerwise")
    return [p for p in candidates(device) if p.storage in plain and p.offload != "free_text_encoder"]
