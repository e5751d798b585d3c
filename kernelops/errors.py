"""Errors and warnings, by what has gone wrong.

Bad input is a ``ValueError`` or a ``TypeError`` whose text names the argument, what was wanted and what came.
The outcome of a solve is not an error: it is the ``status`` of a :class:`~kernelops.Solution`, which
``on_fail`` turns into a :class:`ConvergenceWarning` or a :class:`SolveError`.
"""

from typing import Any


class FormulaError(ValueError):
    """A formula or an alias that cannot be read; the text shows the place with a caret if there is one."""


class ArgumentError(ValueError):
    """An argument whose value is out of place: a wrong count, an unknown name, a negative alpha."""


class ShapeError(ArgumentError):
    """An array whose shape does not fit the variable it stands for."""


class RangesError(ArgumentError):
    """Block-sparse ranges that are out of bounds, overlap, or do not fit together."""


class BackendError(ArgumentError):
    """A backend that does not exist, or cannot be used on this machine or for these arrays."""


class DtypeError(TypeError):
    """An array of a kind or a precision that cannot be used as this argument."""


class KeywordError(TypeError):
    """A keyword that is unknown, or two keywords that exclude each other."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the text gives the command that installs it."""


class ConvergenceWarning(UserWarning):
    """A solve ended without converging; the text is the message of its Solution."""


class SolveError(RuntimeError):
    """A solve ended without converging and ``on_fail="raise"`` was asked for.

    Attributes
    ----------
    solution : Solution
        What had been reached: the best iterate, its residual and the history.
    """

    def __init__(self, solution: Any) -> None:
        super().__init__(solution.message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.solution,)
