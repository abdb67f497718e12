"""Results at the input's size and as sharp as the input; see docs/refine.md."""

from omnialpha.imaging.refine.colours import foreground_colours
from omnialpha.imaging.refine.stack import is_reduced, refine

__all__ = ["foreground_colours", "is_reduced", "refine"]
