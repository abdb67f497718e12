"""The benchmarks by name: each a function from a data set and a few choices to the list of its cases.

Listing opens no picture. Choices are part of the settings of a run and stand beside its numbers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omnialpha.errors import InputError, nearest
from omnialpha.evaluation.cases import Case, check_cases
from omnialpha.evaluation.folders import folder
from omnialpha.evaluation.manifest_cases import alphalayers_test, completion
from omnialpha.evaluation.public_cases import aim500, aim500_captions, crello_layers, ober, refmatte_rw100, rord


def t2i(data: Path, *, captions: Path | None = None) -> list[Case]:
    """Text to transparent image (Table 2): FID against a reference set, CLIP-Score with the text.

    Args:
        data: A manifest, whose test split's cut-outs and captions are used; or AIM-500's folder.
        captions: For AIM-500, which has none: JSON of ``{"<stem>": "caption"}``.

    Raises:
        InputError: A caption is missing, or the layout is another one.
    """
    return alphalayers_test(data, tasks=("text_to_image",)) if data.is_file() else aim500_captions(data, captions)


BENCHMARKS: Mapping[str, Callable[..., list[Case]]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            *(aim500, refmatte_rw100, rord, alphalayers_test, t2i, completion, ober, crello_layers),
            folder,
        )
    }
)
"""The benchmarks by name."""


def list_cases(benchmark: str, data: Path, choices: Mapping[str, Any]) -> list[Case]:
    """All cases of a benchmark, in a fixed order.

    Args:
        benchmark: A name of `BENCHMARKS`.
        data: Its folder, or its manifest.
        choices: Keyword arguments of the benchmark's function.

    Returns:
        The cases, checked for names that could collide.

    Raises:
        InputError: The benchmark or a choice is unknown, or the data does not have the expected layout.
    """
    if benchmark not in BENCHMARKS:
        raise InputError(f'unknown benchmark "{benchmark}"{nearest(benchmark, BENCHMARKS) or "; see BENCHMARKS"}')
    cases = BENCHMARKS[benchmark](data, **choices)
    check_cases(cases, data)
    return cases
