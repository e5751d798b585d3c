"""Output of a solve while it runs: a progress bar, and the lines of verbose=True."""

from __future__ import annotations

import math
import sys
import time

SECONDS_BETWEEN_LINES = 2.0  # seconds between two lines on stderr if tqdm is not installed


class ProgressBar:
    """A progress bar: tqdm's, or a line on stderr every two seconds.

    The bar counts decades of the residual, from the first one to what was asked for, so that the time left that tqdm
    shows is that of a residual which goes on falling as fast as it did.
    """

    def __init__(self, asked: float) -> None:
        self.asked, self.first, self.shown = max(asked, sys.float_info.min), 0.0, time.monotonic()
        try:
            from tqdm import tqdm

            layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            self.bar = tqdm(desc="solve", total=1.0, bar_format=layout)
        except ImportError:
            self.bar = None

    def show(self, iterations: int, residual: float) -> None:
        """Show the number of iterations and the largest relative residual."""
        self.first = self.first or residual
        done = self._share(residual)
        if self.bar is not None:
            self.bar.set_postfix_str(f"{iterations} iterations, residual {residual:.1e}", refresh=False)
            self.bar.update(max(0.0, done - self.bar.n))
        elif time.monotonic() - self.shown > SECONDS_BETWEEN_LINES:
            self.shown = time.monotonic()
            print(f"solve: {iterations} iterations, residual {residual:.1e}, {100 * done:.0f} %", file=sys.stderr)

    def _share(self, residual: float) -> float:
        """The share of the decades from the first residual to the one asked for that are done."""
        if not (residual > 0 and self.first > self.asked):
            return 1.0
        return min(1.0, max(0.0, math.log(self.first / residual) / math.log(self.first / self.asked)))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def log_line(text: str) -> None:
    """Write a line of `verbose=True` to stderr."""
    print(f"solve: {text}", file=sys.stderr)
