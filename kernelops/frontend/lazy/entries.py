"""Single entries of a LazyTensor: its diagonal, rows, blocks, and all of it as an array.

Each is an ordinary sum, over one term, of the same formula with its variables in other roles, so that it is computed by
the same engine and differentiated by the same rules.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ...arrays.arguments import is_scalar
from ...errors import ArgumentError, ShapeError
from ...formula.expr import Expr, substitute, variable
from ...reductions.pairs import check_indices
from .products import Products
from .reductions import Call, make_genred, split_accuracy
from .slots import Slot, by_position

_ITEMSIZE = {"float16": 2, "float32": 4, "float64": 8, None: 8}  # bytes of a number
_ALL_PAIRS = {"Vi": "Pm", "Vj": "Vi", "Pm": "Pm"}  # each i is an element of the batch, whose rows are the j
_MATCHED = {"Vi": "Vi", "Vj": "Vi", "Pm": "Pm"}  # row k meets column k


@lru_cache(maxsize=1024)
def _in_roles(expr: Expr, matched: bool) -> Expr:
    """The formula with its variables in the roles of one of the tables above."""
    roles = _MATCHED if matched else _ALL_PAIRS
    return substitute(expr, {v: variable(roles[v.op], v.position, v.dim) for v in expr.vars})


class Entries(Products):
    """Methods that evaluate the formula at some pairs or at all of them."""

    def to_dense(self, max_bytes: int = 1 << 30, **options: Any) -> Any:
        """The formula at all pairs, as an array of the shape of the LazyTensor; 0 outside its ranges.

        Parameters
        ----------
        max_bytes : int, default 2**30
            The largest array that is made.
        **options
            backend and device_id, as for a reduction.

        Raises
        ------
        ArgumentError
            If the array would take more than max_bytes, or a variable is symbolic.
        """
        if not is_scalar(max_bytes):
            raise ArgumentError(f"max_bytes: wanted a number of bytes, got {max_bytes!r}")
        size = prod(self._shape) * _ITEMSIZE[self.frame.dtype]
        if size > max_bytes:
            raise ArgumentError(
                f"to_dense would make an array of {size} bytes, max_bytes is {max_bytes}; pass more if it fits"
            )
        return self._evaluate(None, None, options)

    def rows(self, indices: Any, **options: Any) -> Any:
        """Some rows of the matrix, (..., len(indices), N) or with D behind it; 0 outside its ranges.

        Parameters
        ----------
        indices : sequence of int
            The i that are wanted, in any order.
        **options
            backend and device_id, as for a reduction.
        """
        return self._evaluate(indices, None, options)

    def block(self, rows: Any, columns: Any, **options: Any) -> Any:
        """Some rows and columns of the matrix, (..., len(rows), len(columns)) or with D behind it.

        Parameters
        ----------
        rows, columns : sequence of int
            The i and the j that are wanted, in any order.
        **options
            backend and device_id, as for a reduction.
        """
        return self._evaluate(rows, columns, options)

    def diagonal(self, **options: Any) -> Any:
        """The entries (i, i), an array (..., n) or (..., n, D).

        Parameters
        ----------
        **options
            backend and device_id, as for a reduction.

        Raises
        ------
        ShapeError
            If there are not as many i as j.
        """
        M, N = self.frame.M, self.frame.N
        if M is not None and N is not None and M != N:
            raise ShapeError(f"diagonal: wanted as many i as j, got {M} and {N}")
        count = M if M is not None else N
        expr = _in_roles(self.expr, True)
        slots = [s.of_kind(_MATCHED[s.kind]) for s in self.slots]
        sizes = (count if not any(v.op == "Vi" for v in expr.vars) else None, 1)
        found = self._computed(expr, slots, sizes, options)
        rows = 1 if count is None else count
        found = self._of_shape(found, (*self.frame.batch, rows, self.expr.dim))
        if self.frame.ranges is not None:
            self._check_ranges(self.frame.ranges)
            k = np.arange(rows)
            found = self.library.keep(found, self.frame.ranges.contains(k, k)[:, None])
        return found if self.expr.dim > 1 else found[..., 0]

    def _evaluate(self, rows: Any, columns: Any, options: dict[str, Any]) -> Any:
        """The formula at rows x columns; None for all of them."""
        *batch, M, N, D = self._shape
        I = None if rows is None else check_indices(rows, M, "rows")
        J = None if columns is None else check_indices(columns, N, "columns")
        M, N = M if I is None else len(I), N if J is None else len(J)
        shape = (*batch, M, N, D)
        expr = _in_roles(self.expr, False)
        slots = [self._one_role(s, {"Vi": I, "Vj": J}.get(s.kind)) for s in self.slots]
        sizes = (N if not any(v.op == "Vi" for v in expr.vars) else None, 1)
        found = self._of_shape(self._computed(expr, slots, sizes, options), shape)
        if self.frame.ranges is not None:
            self._check_ranges(self.frame.ranges)
            every = (np.arange(M) if I is None else I)[:, None], np.arange(N) if J is None else J
            found = self.library.keep(found, self.frame.ranges.contains(*every)[..., None])
        return found if D > 1 else found[..., 0]

    def _one_role(self, slot: Slot, indices: Any) -> Slot:
        """The slot of a variable whose rows i are elements of the batch, or whose rows j are rows."""
        values = slot.values
        if not self.library.is_array(values):
            return slot
        if indices is not None:
            values = self.library.take(values, indices)
        if slot.kind == "Vj":
            values = values[..., None, :, :]
        elif slot.kind == "Pm" and len(values.shape) > 1:
            values = values[..., None, :]
        return Slot(values, _ALL_PAIRS[slot.kind])

    def _computed(self, expr: Expr, slots: list[Slot], sizes: tuple[int | None, int | None], options: Any) -> Any:
        """The sum over one j of the formula."""
        if self.symbolic_variables:
            raise ArgumentError("wanted arrays for all variables, got symbolic ones: entries have values at once")
        accuracy = split_accuracy(options)
        function = make_genred(self.library, expr, None, "Sum", 1, None, accuracy, sizes)
        if self.frame.backend is not None:
            options.setdefault("backend", self.frame.backend)
        arrays = Call(function, tuple(slots), tuple(by_position(expr)), self.frame, self.library, {})._arrays({})
        return function(*arrays, **options)

    def _of_shape(self, found: Any, shape: tuple[int, ...]) -> Any:
        return found if tuple(found.shape) == shape else self.library.broadcast(found, shape)
