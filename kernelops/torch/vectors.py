"""The operations of the solvers on blocks of tensors, which stay on their device.

What a solve costs beside its products is mostly waiting. A number that the host has to know (to judge a residual, or to
see that a matrix is not positive definite) is there only when all work given to the device before is done; and until
the host has looked at it and given new work, which takes tens of microseconds, the device has nothing to do. So:

- `cg_update` makes the whole step of conjugate gradients on the device, its length included, and leaves the curvature,
  the residual's norm and what else is asked for in one transfer.
- Before the host reads that, it gives the device the next direction (`next_direction`) and the next product, unless the
  step may have been the last one. It judges the step while the product runs, and the device does not stand still. A
  product that turns out not to be needed counts among the `products` of a Solution; nothing else of it changes.
- So the only waits are those around a residual from scratch, and one a step (two with a preconditioner) if a
  callback looks at every iterate. Block conjugate gradients wait five times a step, for matrices of k by k numbers, of
  which the host takes the eigenvalues.
- Numbers go to the device without a wait: a single one as an argument of a kernel, others from pinned memory.

Products of pairs of vectors are multiplied and summed in float64, in an order that depends on shapes alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..solvers.vectors import QUIET
from .preconditioners import precondition
from .tensors import OF_NUMPY, OF_TORCH, on, product, row_chunks, sum_dtype

Tensor = torch.Tensor
Pairs = Sequence[tuple[Tensor, Tensor]]


class Deferred:
    """Scalars of one dtype that a device makes, on their way to the host by one transfer.

    Attributes
    ----------
    found : list of Tensor
        The scalars on the device.
    followed : bool
        Whether more work has been queued since, so that the device does not idle while the host waits.
    """

    def __init__(self, found: list[Tensor]) -> None:
        self.found, self.followed, self.event = found, False, None
        self.flat = torch.cat([t.reshape(-1) for t in found])
        if self.flat.is_cuda:
            there = self.flat
            self.flat = torch.empty(there.shape, dtype=there.dtype, device="cpu", pin_memory=True)
            self.flat.copy_(there, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(there.device))

    def read(self) -> list[np.ndarray]:
        """The scalars on the host, as soon as they are there."""
        if self.event is not None:
            self.event.synchronize()
        flat, parts, first = self.flat.numpy(), [], 0
        for t in self.found:
            parts.append(flat[first : first + t.numel()].reshape(t.shape))
            first += t.numel()
        return parts


class TensorVectors:
    """The operations of :class:`kernelops.solvers.vectors.Vectors` for tensors on one device.

    Attributes
    ----------
    waits : int
        How many times the host has waited for the device with nothing else for it to do.
    """

    overlaps = True

    def __init__(self, device: torch.device | str) -> None:
        self.device, self.waits = torch.device(device), 0

    def timestamp(self) -> Any:
        """The time: on a GPU that at which the work given to it until now is done."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks."""
        if self.device.type != "cuda":
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    # ---- to and from the host ----

    def is_block(self, a: Any) -> bool:
        return isinstance(a, Tensor)

    def to_host(self, x: Tensor) -> np.ndarray:
        self.waits += 1
        return np.asarray(x.cpu().numpy())

    def from_host(self, a: np.ndarray) -> Tensor:
        return on(self.device, a)

    def from_whole(self, a: np.ndarray) -> Tensor:
        return self.from_host(a)

    def via_host(self, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
        return lambda x: self.from_host(function(self.to_host(x)))

    @QUIET
    def _column_numbers(self, a: np.ndarray, x: Tensor) -> tuple[float | None, Tensor | None]:
        """Real numbers of columns in the precision of the block x: as the only number, or as a tensor that meets x."""
        single = x.dtype in (torch.float32, torch.complex64)
        a = np.asarray(a)[..., None, :].astype(np.float32 if single else np.float64)
        return (float(a.item()), None) if a.size == 1 else (None, on(self.device, a))

    # ---- blocks ----

    def dtype(self, x: Tensor) -> np.dtype:
        return OF_TORCH[x.dtype]

    def zeros(self, shape: Sequence[int], dtype: Any) -> Tensor:
        return torch.zeros(tuple(shape), dtype=OF_NUMPY[np.dtype(dtype)], device=self.device)

    def fill(self, x: Tensor, value: complex) -> None:
        x.fill_(value)

    def copy(self, x: Tensor, dtype: Any = None) -> Tensor:
        kind = x.dtype if dtype is None else OF_NUMPY[np.dtype(dtype)]
        return x.to(kind, copy=True, memory_format=torch.contiguous_format)

    def round(self, x: Tensor, dtype: Any) -> Tensor:
        """x as numbers of a shorter dtype, in its own dtype."""
        return x.to(OF_NUMPY[np.dtype(dtype)]).to(x.dtype)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], dim=-1)

    def take(self, x: Tensor, columns: np.ndarray, dtype: Any = None) -> Tensor:
        """A contiguous copy of some columns."""
        if len(columns) == x.shape[-1]:
            return self.copy(x, dtype)
        part = x.index_select(-1, on(self.device, columns))
        return part if dtype is None else part.to(OF_NUMPY[np.dtype(dtype)])

    def put(self, x: Tensor, columns: np.ndarray, part: Tensor, where: np.ndarray | None = None) -> None:
        """Write part over some columns of x; with `where` (..., len(columns)) only where it says so."""
        index = None if len(columns) == x.shape[-1] else on(self.device, columns)
        if where is not None and not where.all():
            old = x if index is None else x.index_select(-1, index)
            part = torch.where(on(self.device, where[..., None, :]), part, old)
        if index is None:
            x.copy_(part)
        else:
            x.index_copy_(-1, index, part.to(x.dtype))

    def axpy(self, a: np.ndarray, x: Tensor, y: Tensor) -> None:
        """y += a x, with a number for every column."""
        number, numbers = self._column_numbers(a, y)
        if numbers is None:
            y.add_(x, alpha=number)  # type: ignore[arg-type]
        else:
            y.add_(x * numbers)

    def aypx(self, a: np.ndarray, x: Tensor, y: Tensor) -> None:
        """y = x + a y, with a number for every column."""
        number, numbers = self._column_numbers(a, y)
        y.mul_(number if numbers is None else numbers).add_(x)  # type: ignore[arg-type]

    def scale(self, a: np.ndarray, x: Tensor) -> None:
        number, numbers = self._column_numbers(a, x)
        x.mul_(number if numbers is None else numbers)  # type: ignore[arg-type]

    @QUIET
    def combine(self, x: Tensor, c: np.ndarray) -> Tensor:
        """x c, in the dtype of x, with coefficients (..., k, l)."""
        return product(x, on(self.device, c.astype(OF_TORCH[x.dtype])))

    def precondition(self, preconditioners: Sequence[Any], x: Tensor) -> Tensor:
        """M x, by preconditioners for each element of the batch, or by one for all."""
        return precondition(preconditioners, x)

    # ---- scalars ----

    def dot(self, x: Tensor, y: Tensor) -> np.ndarray:
        """<x, y> of every column, conjugating x."""
        return self.scalars(dots=[(x, y)])[0]

    def gram(self, x: Tensor, y: Tensor) -> np.ndarray:
        """x^H y: shape (..., k, l) for blocks of k and l columns."""
        return self.scalars(grams=[(x, y)])[0]

    def scalars(self, dots: Pairs = (), grams: Pairs = ()) -> list[np.ndarray]:
        """Several `dot` and, after them, several `gram`."""
        found = [self._dot(x, y) for x, y in dots] + [self._gram(x, y) for x, y in grams]
        return self.read(Deferred(found)) if found else []

    def sum_parts(self, parts: Iterable[Tensor], shape: Sequence[int], kind: torch.dtype) -> Tensor:
        """The sum of tensors that chunks of rows have left, in their order; over all processes that share out the rows.

        Every `dot` and `gram` ends here.
        """
        found = None
        for part in parts:
            found = part if found is None else found + part
        return torch.zeros(tuple(shape), dtype=kind, device=self.device) if found is None else found

    def _dot(self, x: Tensor, y: Tensor) -> Tensor:
        """<x, y> of every column on the device."""
        kind = sum_dtype(x) if x.is_complex() else sum_dtype(y)
        parts = (
            (x[rows].to(kind).conj() * y[rows]).sum(dim=-2) for rows in row_chunks(x)
        )  # y is promoted as it is read
        return self.sum_parts(parts, (*x.shape[:-2], x.shape[-1]), kind)

    def _gram(self, x: Tensor, y: Tensor) -> Tensor:
        """x^H y on the device."""
        kind = sum_dtype(x) if x.is_complex() else sum_dtype(y)
        parts = (x[rows].mT.conj().to(kind) @ y[rows].to(kind) for rows in row_chunks(x))
        return self.sum_parts(parts, (*x.shape[:-2], x.shape[-1], y.shape[-1]), kind)

    def largest(self, x: Tensor) -> np.ndarray:
        """The largest magnitude in every column; nan or inf if there is one."""
        if not x.numel():
            return np.zeros((*x.shape[:-2], x.shape[-1]))
        return self.read(Deferred([x.abs().amax(dim=-2).to(torch.float64)]))[0]

    def eigh(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, eigenvectors = np.linalg.eigh(a)
        return values, eigenvectors

    def cg_update(
        self,
        p: Tensor,
        q: Tensor,
        x: Tensor,
        r: Tensor,
        rz: np.ndarray,
        least: np.ndarray,
        running: np.ndarray,
        dots: Pairs = (),
    ) -> Deferred:
        """x += s p and r -= s q with s = rz / <p, q>, in the columns that run and whose <p, q> is above `least`.

        Leaves to `read` <p, q>, s, <r, r> after the step, and other products that are asked for, after the step too.
        """
        numbers = on(self.device, np.stack([rz, np.where(running, least, np.inf)]))
        curvature = _real(self._dot(p, q))
        step = torch.where(curvature > numbers[1], numbers[0] / curvature, 0.0)
        across = step[..., None, :].to(x.dtype)
        x.addcmul_(p, across)
        r.addcmul_(q, across, value=-1)
        return Deferred([curvature, step, _real(self._dot(r, r)), *(_real(self._dot(u, v)) for u, v in dots)])

    def next_direction(
        self, step: Deferred, r: Tensor, z: Tensor, p: Tensor, previous: np.ndarray, running: np.ndarray
    ) -> Deferred:
        """p = z + t p with t = <r, z> / previous in the columns that run, and 0 in others, after a step; leaves <r, z>.

        The next product is queued before the host reads these scalars, so the transfer overlaps with it.
        """
        numbers = on(self.device, np.where(running, previous, np.inf))
        rz = step.found[2] if z is r else _real(self._dot(r, z))
        p.mul_((rz / numbers)[..., None, :].to(p.dtype)).add_(z)
        turned = Deferred([rz])
        step.followed = turned.followed = True
        return turned

    def read(self, found: Deferred) -> list[np.ndarray]:
        """The scalars of `cg_update` or `next_direction`, as soon as they are on the host."""
        self.waits += not found.followed
        return found.read()


def _real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x
