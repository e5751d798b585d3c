"""LazyLibrary: what numpy or torch give to LazyTensors besides reductions and solves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..genred import Genred
from ..kernel_solve import KernelSolve


class LazyLibrary(Protocol):
    """Arrays of one library as a LazyTensor sees them; kernelops.numpy.lazy and kernelops.torch.lazy."""

    noun: str  # what its arrays are called in messages: "a numpy array"
    door: str  # the module that users import: "kernelops.numpy"
    genred: type[Genred]
    kernel_solve: type[KernelSolve]

    def __hash__(self) -> int:
        """By identity: there is one for each door."""
        ...

    def is_array(self, x: Any, /) -> bool:
        """Whether x is an array of this library."""
        ...

    def check(self, x: Any, /) -> None:
        """Raise a DtypeError for an array of a kind that cannot be computed with: sparse, masked."""
        ...

    def is_complex(self, x: Any, /) -> bool:
        """Whether an array is complex."""
        ...

    def dtype_name(self, x: Any, /) -> str:
        """The dtype of an array as text: "float32"."""
        ...

    def drop_axis(self, x: Any, axis: int, /) -> Any:
        """A view without an axis of length 1. Never a copy: the same points are known by their memory."""
        ...

    def parameter(self, values: Sequence[float], dtype: str | None, like: Any, /) -> Any:
        """Numbers as an array of this dtype, or its default one, where ``like`` is, which may be None."""
        ...

    def concatenate(self, parts: Sequence[Any], /) -> Any:
        """Arrays joined along their last dimension."""
        ...

    def exchange_axes(self, x: Any, /) -> Any:
        """A view with the last two axes exchanged."""
        ...

    def join_complex(self, real: Any, imaginary: Any, /) -> Any:
        """A complex array of its two parts."""
        ...

    def broadcast(self, x: Any, shape: tuple[int, ...], /) -> Any:
        """An array of this shape that can be written, from one that broadcasts to it."""
        ...

    def keep(self, x: Any, mask: Any, /) -> Any:
        """x, but 0 where a numpy array of booleans, which broadcasts to it, is False."""
        ...

    def take(self, x: Any, indices: Any, /) -> Any:
        """Rows of an array (..., rows, D), by a numpy array of indices."""
        ...

    def to_host(self, x: Any, /) -> Any:
        """A numpy array with the values of an array, detached from what computed it."""
        ...
