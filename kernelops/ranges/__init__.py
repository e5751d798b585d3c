"""Which rows meet which columns."""

from .halves import NAMES, Half
from .ranges import Ranges

__all__ = ["NAMES", "Half", "Ranges"]
