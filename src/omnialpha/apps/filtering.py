"""The options of the quality filter of `omnialpha data build`."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from omnialpha.alphalayers.quality import Limits


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a cut-out must be like. Attributes are the options, named as in `alphalayers.quality.Limits`."""

    least_extent: Annotated[
        int, typer.Option("--least-extent", min=1, help="Longer side of a cut-out's visible part, pixels.")
    ] = 64
    least_coverage: Annotated[float, typer.Option("--least-coverage", help="Mean alpha of the picture.")] = 0.01
    most_coverage: Annotated[float, typer.Option("--most-coverage", help="Mean alpha of the picture.")] = 0.99
    most_soft: Annotated[float, typer.Option("--most-soft", help="Share of visible pixels that are not opaque.")] = 1.0
    most_contact: Annotated[
        float, typer.Option("--most-contact", help="Share of an object cut off by one side of the frame; 1: any.")
    ] = 0.3
    distance: Annotated[
        int, typer.Option("--distance", help="Differing bits of 64 in the hashes of near-duplicates; -1: keep them.")
    ] = 4
    least_aesthetic: Annotated[
        float | None, typer.Option("--least-aesthetic", help="LAION-AES score. Default: not asked for.")
    ] = None
    keep_share: Annotated[float, typer.Option("--keep-share", help="Share to keep of those, by LAION-AES; 1: all.")] = (
        1.0
    )
    aesthetic: Annotated[
        str | None, typer.Option("--aesthetic", help="laion:CLIP#HEAD, where LAION-AES is. Default: no scores.")
    ] = None

    def limits(self) -> "Limits":
        """The limits that they state.

        Raises:
            InputError: One is impossible.
        """
        from omnialpha.alphalayers.quality import Limits

        return Limits(**{name: value for name, value in asdict(self).items() if name != "aesthetic"})
