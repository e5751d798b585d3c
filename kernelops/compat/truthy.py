"""LazyTensors that are true, as those of KeOps are: bool(K) warns once and gives True."""

from __future__ import annotations

from typing import Any, ClassVar
from warnings import warn

_warned = False


def forget_warning() -> None:
    """Have the next truth value warn again."""
    global _warned
    _warned = False


class GenericLazyTensor:
    """The base of the four classes of LazyTensors that kernelops.compat gives for those of KeOps."""

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # == is a formula

    def __bool__(self) -> bool:
        global _warned
        if not _warned:
            _warned = True
            warn(
                "a LazyTensor is always true, as in KeOps: `a < b < c` means `b < c`, and `assert P.min() >= 0` holds "
                "whatever P is. Outside kernelops.compat this is an error",
                stacklevel=2,
            )
        return True


class ComplexGenericLazyTensor(GenericLazyTensor):
    """The base of the two complex ones."""


def is_complex_lazytensor(x: Any) -> bool:
    """Whether x is a ComplexLazyTensor of kernelops.compat."""
    return isinstance(x, ComplexGenericLazyTensor)


__all__ = ["ComplexGenericLazyTensor", "GenericLazyTensor", "forget_warning", "is_complex_lazytensor"]
