"""The arrays of a call, checked once when they come in: numpy's, torch's, or those of a GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, BackendError, DtypeError, ShapeError
from ..formula.expr import Expr
from .device_array import DeviceArray, common_device, device_view, on_device

FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_DTYPE_NAMES = {"half": "float16", "float": "float32", "double": "float64"}


def is_tensor(a: object) -> bool:
    """Whether a is a torch tensor; if torch was never imported nothing can be one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(a, torch.Tensor)


def is_scalar(a: object) -> bool:
    """Whether a is a number: Python's or numpy's, not an array."""
    return isinstance(a, (int, float, np.integer, np.floating)) and not isinstance(a, bool)


def unwrap_whole(a: Any) -> Any:
    """The int of a whole number of numpy, or of a tensor of no dimensions that holds one; anything else as it is."""
    if type(a) is int or getattr(a, "shape", None) != () or "bool" in str(getattr(a, "dtype", "bool")):
        return a
    try:
        return index(a)
    except (TypeError, RuntimeError):  # it is no whole number, or has no value yet, as inside torch.func.vmap
        return a


def as_numpy_view(a: Any) -> np.ndarray | None:
    """The usual arguments as numpy arrays without a copy: an array, or a dense float tensor of the CPU; else None."""
    if type(a) is np.ndarray:
        return a if a.dtype.isnative else None
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(a, torch.Tensor) or not a.is_cpu or a.layout is not torch.strided:
        return None
    return a.numpy(force=True) if a.dtype in (torch.float32, torch.float64) else None


def to_float(a: Any, name: str) -> float:
    """A number as float64 holds it; name is what the message calls it."""
    try:
        return float(a)
    except OverflowError:
        raise ArgumentError(f"{name}: wanted a number that float64 can hold, got one beyond 1.8e308") from None


def to_numpy(a: Any, name: str, others: str = "") -> np.ndarray:
    """The numpy array that shares its memory with a; name is what the messages call it, others what it may be too."""
    if is_tensor(a):
        torch = sys.modules["torch"]
        if a.device.type != "cpu":
            raise BackendError(f"{name} is on {a.device}: wanted it on the host; move it with .cpu()")
        if a.layout is not torch.strided:
            raise DtypeError(f"{name} is a tensor of layout {a.layout}: wanted a dense one, as .to_dense() gives")
        if a.dtype is torch.bfloat16:
            raise DtypeError(f"{name} is bfloat16: wanted float16, float32 or float64; .float() makes float32 of it")
        return a.detach().resolve_conj().resolve_neg().numpy()
    if on_device(a):
        raise BackendError(f"{name} is on a GPU: wanted it on the host; copy it there first")
    if isinstance(a, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array: wanted a plain one, as .filled(value) gives")
    if isinstance(a, np.ndarray):  # bytes in another order than this machine's are put in order
        return np.asarray(a, a.dtype.newbyteorder("=")) if a.dtype.kind in "iuf" else np.asarray(a)
    if is_scalar(a):
        return np.asarray(to_float(a, name) if isinstance(a, int) else a)
    raise DtypeError(f"{name}: wanted {others}a numpy array or a torch tensor, got {type(a).__name__}")


def float_dtype(dtype: Any, name: str = "dtype") -> np.dtype:
    """float16, float32 or float64 from a name of theirs, a numpy dtype or a torch dtype."""
    text = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else np.dtype(dtype).name
    text = _DTYPE_NAMES.get(text, text)
    if text not in ("float16", "float32", "float64"):
        raise DtypeError(f"{name}: wanted float16 (half), float32 (float) or float64 (double), got {dtype!r}")
    return np.dtype(text)


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """The precision in which data of this precision are computed: float32 for float16."""
    return np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)


def same_data(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays hold the same numbers: the same memory, else equal values."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    same = a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.strides == b.strides
    return same or bool(np.array_equal(a, b))


class Arguments(NamedTuple):
    """The arrays of one call, checked.

    Attributes
    ----------
    arrays : tuple of ndarray, DeviceArray or None
        By position; (..., M, D), (..., N, D) or (..., 1, D), floating point, any strides.
    dtype : dtype
        That of the data.
    batch : tuple of int
        The batch dimensions, broadcast.
    M, N : int
        Rows of the Vi and of the Vj variables.
    device : int or None
        The GPU that computes; None for the CPU. On a GPU, an array of the host is copied when it is wanted.
    library : str
        Where results belong: the library of a DeviceArray.
    """

    arrays: tuple[Any, ...]
    dtype: np.dtype
    batch: tuple[int, ...]
    M: int
    N: int
    device: int | None = None
    library: str = "host"

    def replace_array(self, position: int, array: Any) -> Arguments:
        """The same call with one array replaced; the batch dimensions are broadcast anew."""
        given = self.arrays
        before, after = given[:position] + (None,) * (position - len(given)), given[position + 1 :]
        arrays = (*before, array, *after)
        batch: tuple[int, ...] = ()
        if self.batch or array.ndim > 2:
            batch = np.broadcast_shapes(*(a.shape[:-2] for a in arrays if a is not None))
        return self._replace(arrays=arrays, batch=batch)


def label(v: Expr, names: Mapping[Expr, str] | None = None) -> str:
    """The name of a variable in messages: "x = Vi(3)", or "argument 2 = Vj(1)" if it has no name."""
    name = (names or {}).get(v, f"argument {v.position}")
    return f"{name} = {v.op}({v.dim})"


def bind_arguments(
    variables: Sequence[Expr],
    args: Sequence[Any],
    names: Mapping[Expr, str] | None = None,
    *,
    dtype: np.dtype | None = None,
    sizes: tuple[int | None, int | None] = (None, None),
    device: int | None = None,
) -> Arguments:
    """Check the arrays of a call against the variables that they stand for; device is the GPU that is to compute.

    Raises
    ------
    ArgumentError, ShapeError, DtypeError, BackendError
        Naming the argument, what was wanted and what came.
    """
    places = {v.position: v for v in variables}
    count = max(places, default=-1) + 1
    if len(args) != count:
        wanted = ", ".join(label(places[p], names) for p in sorted(places))
        gaps = "" if count == len(places) else f" at positions {', '.join(map(str, sorted(places)))}"
        raise ArgumentError(f"wanted {count} argument{'s' * (count != 1)} ({wanted}{gaps}), got {len(args)}")
    given: dict[int, Any] = {}
    on_gpu = False
    for p, v in places.items():
        a = as_numpy_view(args[p])
        if a is None:
            a = _as_array(args[p], v, names, device)
            on_gpu = on_gpu or isinstance(a, DeviceArray)
        given[p] = a
    common = _common_dtype(places, given, args, names, dtype)
    arrays: list[Any] = [None] * count
    for p, v in places.items():
        arrays[p] = _check_shape(given[p], v, names, common)
    M, N = _counts(places, arrays, names, sizes)
    library = "host"
    if on_gpu:  # numbers may be of the host
        device, library = common_device({label(v, names): given[p] for p, v in places.items() if given[p].ndim}, device)
    return Arguments(tuple(arrays), common, _batch(places, arrays, names), M, N, device, library)


def _as_array(a: Any, v: Expr, names: Mapping[Expr, str] | None, device: int | None) -> Any:
    """An argument as an array of the host or of a GPU."""
    if on_device(a):
        return device_view(a, label(v, names), -1 if device is None else device)
    return to_numpy(a, label(v, names), "a number, " * (v.op == "Pm"))


def _common_dtype(
    places: Mapping[int, Expr],
    given: Mapping[int, Any],
    args: Sequence[Any],
    names: Mapping[Expr, str] | None,
    dtype: np.dtype | None,
) -> np.dtype:
    """The one precision of the arrays; numbers take it on."""
    found: np.dtype | None = None
    holder: Expr | None = None
    for p, v in places.items():
        a = given[p]
        if v.op == "Pm" and (is_scalar(args[p]) or (a.ndim == 0 and a.dtype.kind in "iu")):
            continue
        if a.dtype not in FLOATS:
            raise DtypeError(f"{label(v, names)}: wanted float16, float32 or float64, got {a.dtype}")
        if v.op == "Pm" and a.ndim == 0 and not is_tensor(args[p]):
            continue
        if dtype is not None and a.dtype != dtype:
            raise DtypeError(f"{label(v, names)} is {a.dtype}: dtype = {dtype.name} was asked for")
        if holder is not None and a.dtype != found:
            raise DtypeError(
                f"{label(v, names)} is {a.dtype}, {label(holder, names)} is {found}: "
                "all arrays of a call must have one dtype"
            )
        found, holder = a.dtype, v
    return found or dtype or np.dtype(np.float64)


def _check_shape(a: Any, v: Expr, names: Mapping[Expr, str] | None, dtype: np.dtype) -> Any:
    """The array of a variable in its shape and the dtype of the computation; a Pm gets an axis of one row."""
    if v.op == "Pm":
        if a.ndim == 0:
            a = a.vector() if isinstance(a, DeviceArray) else a.reshape(1)
    elif a.ndim < 2:
        hint = " (.reshape(-1, 1) makes one column of it)" if v.dim == 1 and a.ndim == 1 else ""
        raise ShapeError(f"{label(v, names)} needs an array of shape {_wanted_shape(v)}, got shape {a.shape}{hint}")
    if a.shape[-1] != v.dim:
        columns = f"{v.dim} column{'s' * (v.dim != 1)}"
        raise ShapeError(f"{label(v, names)} needs {columns}, shape {_wanted_shape(v)}, got shape {a.shape}")
    if isinstance(a, DeviceArray):
        if a.dtype != dtype:
            raise DtypeError(f"{label(v, names)} is {a.dtype}, the other arrays are {dtype}: a GPU converts none")
        return a.as_row() if v.op == "Pm" else a
    if a.dtype != dtype or dtype == FLOATS[0]:
        computed = compute_dtype(dtype)
        a = cast_parameter(a, computed, label(v, names)) if a.dtype != dtype else a.astype(computed)
    return a[..., None, :] if v.op == "Pm" else a


def cast_parameter(a: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The number of a parameter in the dtype of the other arrays; refused if that cannot hold it."""
    with np.errstate(over="ignore"):
        found = a.astype(dtype)
    if np.isinf(found).any() and np.isfinite(a).all():
        raise ArgumentError(
            f"{name}: wanted a number that {dtype.name} can hold, as the other arrays are, got {a.flat[0]:g}"
        )
    return found


def _wanted_shape(v: Expr) -> str:
    return f"(..., {v.dim})" if v.op == "Pm" else f"(..., rows, {v.dim})"


def _counts(
    places: Mapping[int, Expr],
    arrays: Sequence[Any],
    names: Mapping[Expr, str] | None,
    sizes: tuple[int | None, int | None],
) -> tuple[int, int]:
    """Rows of the Vi and of the Vj variables; 1 if nothing tells."""
    counts = {"Vi": sizes[0], "Vj": sizes[1]}
    for p, v in places.items():
        array = arrays[p]
        if v.op == "Pm" or array is None:
            continue
        count, rows = counts[v.op], array.shape[-2]
        if count is None:
            counts[v.op] = rows
        elif rows != count:
            alike = [u for u in places.values() if u.op == v.op]
            before = alike[: alike.index(v)]
            holder = label(before[-1], names) if before else "the call"
            raise ShapeError(f"{label(v, names)} has {rows} rows, {holder} has {count}")
    M, N = counts.values()
    return 1 if M is None else M, 1 if N is None else N


def _batch(places: Mapping[int, Expr], arrays: Sequence[Any], names: Mapping[Expr, str] | None) -> tuple[int, ...]:
    """The batch shape that the arrays broadcast to."""
    batch: tuple[int, ...] = ()
    for p, v in places.items():
        array = arrays[p]
        if array is None or array.ndim == 2:
            continue
        try:
            batch = np.broadcast_shapes(batch, array.shape[:-2])
        except ValueError:
            raise ShapeError(
                f"{label(v, names)} has batch dimensions {array.shape[:-2]}, which do not broadcast with {batch}"
            ) from None
    return batch
