"""Block-sparse patterns, which say which blocks of i meet which blocks of j; their algebra and queries.

pattern.py holds the six arrays of a pattern and its algebra (transpose, union, intersection, tiles), queries.py
answers (which pairs, how many, symmetric or not, what they cost), ranges.py has the public class with its
constructors. block_rows.py is one half of the six arrays, a CSR matrix over intervals; rectangles.py sees a pattern
as a set of rectangles; clusters.py cuts points into compact blocks and build.py makes patterns of them; lookup.py
finds single pairs, permutation.py keeps orders of rows, validate.py checks what comes in, plot.py draws.

It imports numpy and kernelops.errors, and knows no formula. Arrays, engines and everything above import it. Begin
with pattern.py.
"""

from .block_rows import NAMES, BlockRows
from .ranges import Ranges

__all__ = ["NAMES", "BlockRows", "Ranges"]
