"""LazyTensors inside a graph of torch.compile: the calls that make them are kept, and the reduction is one operator.

While torch.compile traces a function, ``LazyTensor(x)`` gives a `RecordedLazyTensor`: some tensors, and text that says
which calls have been made (lazy_code.py). A reduction, a product with a vector or a solve at the end becomes an
operator, as Genred and KernelSolve do (compiled.py). Whatever a graph cannot hold goes on, uncompiled, with a
LazyTensor for which all these calls are made.
"""

from __future__ import annotations

import inspect
import operator
import sys
from typing import Any

import torch

from ..frontend import lazy
from ..frontend.lazy.base import is_constant
from ..frontend.lazy.methods import METHODS
from ..frontend.lazy.products import COLUMNS
from ..frontend.lazy.reductions import ACCURACY, ALSO_IGNORED, COMPONENTWISE, REDUCTION_METHODS
from . import compiled, lazy_code
from .uncompiled import _code_is_skipped, compile_within_callers, leave_uncompiled

# methods that give LazyTensors, and are kept
_OPERATORS = "add radd sub rsub mul rmul truediv rtruediv or ror neg pos abs pow rpow eq ne lt le gt ge getitem".split()
_KEPT = (
    *(f"__{name}__" for name in _OPERATORS),
    *METHODS,
    *("power", "clamp", "sinc", "norm", "weightedsqdist", "concat", "keops_tensordot", "keops_kron", "t"),
)
_EXPONENTS = ("__pow__", "power")  # of which the value decides which operation they are


# the method of a LazyTensor for an operation of a tensor and of it, in this order, by torch's name
_WITH_TENSOR = {
    "add": "__add__", "__add__": "__radd__", "__radd__": "__add__",
    "mul": "__mul__", "__mul__": "__rmul__", "__rmul__": "__mul__",
    "sub": "__rsub__", "__sub__": "__rsub__", "__rsub__": "__sub__",
    "div": "__rtruediv__", "__truediv__": "__rtruediv__", "__rdiv__": "__truediv__", "__rtruediv__": "__truediv__",
    "pow": "__rpow__", "__pow__": "__rpow__", "__rpow__": "__pow__",
    "__or__": "__ror__", "bitwise_or": "__or__", "__ror__": "__or__",
    "lt": "__gt__", "le": "__ge__", "gt": "__lt__", "ge": "__le__",
    "__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__",
    "eq": "__eq__", "__eq__": "__eq__", "ne": "__ne__", "__ne__": "__ne__",
    "matmul": "__rmatmul__", "__matmul__": "__rmatmul__", "__rmatmul__": "__matmul__",
}  # fmt: skip


@compiled.constant
def are_products_told_apart() -> bool:
    """Whether torch.compile tells ``K @ v`` from ``v @ K``.

    It hands an operator with a tensor on its right to ``__torch_function__`` with the operands exchanged, and the
    reflected operation in its table; for the matrix product alone the table has none, which is added here.
    """
    try:
        from torch._dynamo.variables.builtin import BUILTIN_TO_TENSOR_RFN_MAP
    except ImportError:
        return False
    return BUILTIN_TO_TENSOR_RFN_MAP.setdefault(operator.matmul, torch.Tensor.__rmatmul__) is torch.Tensor.__rmatmul__


class RecordedLazyTensor:
    """What stands for a LazyTensor in a function that torch.compile traces; it has all of its methods.

    Attributes
    ----------
    code : str
        The calls that made it; see lazy_code.py.
    tensors : tuple of torch.Tensor
        What they were given.
    made : LazyTensor or None
        The LazyTensor itself, once it has been needed.
    """

    is_complex = False
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]
    __iter__ = None

    def __init__(self, code: str, tensors: tuple[torch.Tensor, ...]) -> None:
        self.code, self.tensors, self.made = code, tensors, None

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), keywords: Any = None) -> Any:
        """An operator of Python of a tensor and of this one, in this order."""
        name = _WITH_TENSOR.get(function.__name__)
        if name is None or keywords or len(args) != 2 or not isinstance(args[1], RecordedLazyTensor):
            return _refuse_function(function)
        if name == "__rmatmul__" and torch.compiler.is_compiling() and not are_products_told_apart():
            return _plain(args[1], name, (args[0],), {})
        return getattr(args[1], name)(args[0])

    # ---- what is known of it ----

    @property
    def _shape(self) -> Any:
        if _is_kept(self):
            found = _describe(self)
            if found is not None:
                batch, M, N, D, _ = found
                return (*batch, 1 if M is None else M, 1 if N is None else N, D)
        return _attribute(self, "_shape")

    @property
    def shape(self) -> Any:
        shape = self._shape
        return shape if shape[-1] > 1 else shape[:-1]

    @property
    def ndim(self) -> Any:
        return self._shape[-1]

    def dim(self) -> Any:
        return len(self._shape)

    @property
    def nbatchdims(self) -> Any:
        return len(self._shape) - 3

    @property
    def batchdims(self) -> Any:
        return self._shape[:-3] or None

    @batchdims.setter
    def batchdims(self, batch: Any) -> None:
        _assign(self, "batchdims", batch)

    @property
    def dtype(self) -> Any:
        found = _describe(self) if _is_kept(self) else None
        return _attribute(self, "dtype") if found is None else found[4]

    @property
    def ni(self) -> Any:
        found = _describe(self) if _is_kept(self) else None
        return _attribute(self, "ni") if found is None else found[1]

    @property
    def nj(self) -> Any:
        found = _describe(self) if _is_kept(self) else None
        return _attribute(self, "nj") if found is None else found[2]

    @property
    def T(self) -> Any:
        return self.t()

    def __len__(self) -> int:
        return self.shape[0]

    # ---- reductions ----

    def reduction(self, reduction_op: str, other: Any = None, opt_arg: Any = None, axis: Any = None, dim: Any = None,
                  **options: Any) -> Any:  # fmt: skip
        return _reduce(self, "reduction", (reduction_op, other, opt_arg, axis, dim), options)

    def __matmul__(self, v: Any, **options: Any) -> Any:
        if _is_kept(self) and isinstance(v, torch.Tensor) and v.ndim and not v.is_complex():
            found = _multiply(self, v, options)
            if found is not None:
                return found
        return _plain(self, "__matmul__", (v,), options)

    def __rmatmul__(self, v: Any) -> Any:
        if not isinstance(v, torch.Tensor) or not _is_kept(self):
            return _plain(self, "__rmatmul__", (v,), {})
        return self.t() @ v if v.ndim < 2 else (self.t() @ v.transpose(-1, -2)).transpose(-1, -2)

    def matvec(self, v: Any) -> Any:
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        return self.t() @ v

    matmat, rmatmat = matvec, rmatvec

    def solve(self, other: Any, var: Any = None, call: Any = True, alpha: Any = 1e-10, **options: Any) -> Any:
        if _is_kept(self) and isinstance(other, torch.Tensor) and other.ndim and var is None and call is True:
            found = _solve(self, other, alpha, options)
            if found is not None:
                return found
        return _plain(self, "solve", (other, var, call, alpha), options)

    def __reduce__(self) -> Any:
        return _itself, (_real(self),)


def record(cls: type, x: Any, axis: Any, is_complex: Any) -> Any:
    """``LazyTensor(x, axis)`` while torch.compile traces."""
    are_products_told_apart()
    if isinstance(x, RecordedLazyTensor) and axis is None and not is_complex:
        return x.__pos__()
    if not is_complex and cls is lazy_code._classes["real"] and isinstance(x, (torch.Tensor, int, float, list)):
        found = _write("", (x, axis), {})
        if found is not None:
            return found
    return _make(cls, x, axis, is_complex)


def _is_kept(a: RecordedLazyTensor) -> bool:
    """Whether torch.compile is at work, and the LazyTensor has not been needed."""
    return torch.compiler.is_compiling() and a.made is None


# ---- writing ----


def _write(name: str, args: tuple, keywords: dict[str, Any]) -> RecordedLazyTensor | None:
    """What a call of a method, or of the class for "", gives; None if something is no operand for a graph."""
    tensors: list[torch.Tensor] = []
    exact = name in _EXPONENTS
    operands = [_operand(a, tensors, exact) for a in args]
    named = [(key, _operand(a, tensors, exact)) for key, a in keywords.items()]
    for operand in (*operands, *[a for _, a in named]):
        if operand is None:
            return None
    return RecordedLazyTensor(lazy_code.write(name, tuple(operands), tuple(named)), tuple(tensors))


def _operand(a: Any, tensors: list[torch.Tensor], exact: bool) -> tuple | None:
    """An operand as lazy_code.write takes it; its tensors are added to those there are."""
    if isinstance(a, RecordedLazyTensor):
        if a.made is not None:
            return None
        places = []
        for t in a.tensors:
            places.append(_place(t, tensors))
        return "code", (a.code, tuple(places))
    if isinstance(a, torch.Tensor):
        if a.layout is not torch.strided or a.is_complex():
            return None
        return "tensor", _place(a, tensors)
    if isinstance(a, (int, float)) and not isinstance(a, bool):
        if exact or (_is_static(a) and (is_constant(a) or abs(a) > lazy_code.SURELY_HELD)):
            return "constant", compiled._literal(a)
        tensors.append(compiled._vector(a).reshape(()))
        return "number", len(tensors) - 1
    return ("constant", _literal(a)) if _is_literal(a) else None


def _is_static(a: Any) -> bool:
    """Whether a number is the same at every call of the compiled function."""
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return has_static_value(a)


def _is_literal(a: Any) -> bool:
    if isinstance(a, (tuple, list)):
        return all([_is_literal(b) for b in a])
    return a is None or a is Ellipsis or isinstance(a, (bool, int, float, str, slice))


def _literal(a: Any) -> Any:
    if isinstance(a, tuple):
        return tuple([_literal(b) for b in a])
    return [_literal(b) for b in a] if isinstance(a, list) else compiled._literal(a)


def _place(t: torch.Tensor, tensors: list[torch.Tensor]) -> int:
    """The place of a tensor among others, to which it is added if it is not there."""
    for k, other in enumerate(tensors):
        if other is t:
            return k
    tensors.append(t)
    return len(tensors) - 1


# ---- asking ----


def _forms(tensors: tuple[torch.Tensor, ...]) -> tuple[tuple, list[Any]]:
    """dtypes and shapes of stand-ins for tensors, and what their numbers of rows stand for."""
    sizes: list[Any] = []
    forms = []
    for t in tensors:
        shape = []
        for n in t.shape[:-1]:
            shape.append(_size_class(n, sizes))
        if t.ndim:
            shape.append(compiled._literal(t.shape[-1]))
        forms.append((str(t.dtype)[6:], tuple(shape)))
    return tuple(forms), sizes


def _size_class(n: Any, sizes: list[Any]) -> int:
    """What stands for a number of rows: 0 and 1 for themselves, else one number for each that differs."""
    for small in (0, 1):
        if n == small:
            return small
    for k, other in enumerate(sizes):
        if n == other:
            return lazy_code.FIRST_SIZE + k
    sizes.append(n)
    return lazy_code.FIRST_SIZE + len(sizes) - 1


def _size(n: Any, sizes: list[Any]) -> Any:
    """The number of rows that a number stands for."""
    return n if n is None or n < lazy_code.FIRST_SIZE else sizes[n - lazy_code.FIRST_SIZE]


def _describe(a: RecordedLazyTensor) -> tuple | None:
    """batch, M, N, D and dtype."""
    forms, sizes = _forms(a.tensors)
    found = lazy_code.describe_lazy(a.code, forms)
    if found is None:
        return None
    batch, M, N, D, dtype = found
    return tuple([_size(n, sizes) for n in batch]), _size(M, sizes), _size(N, sizes), D, dtype


# ---- ends ----


def _keep(a: RecordedLazyTensor, name: str, args: tuple, keywords: dict[str, Any]) -> Any:
    if _is_kept(a):
        found = _write(name, (a, *args), keywords)
        if found is not None:
            return found
    return _plain(a, name, args, keywords)


def _reduce(a: RecordedLazyTensor, name: str, args: tuple, keywords: dict[str, Any]) -> Any:
    """A reduction over i or j; or over the components, which is kept."""
    if _is_kept(a) and keywords.get("call", True) is True:
        options, kept = {}, {"call": False}
        for key, value in keywords.items():
            if key in ("backend", "device_id", "ranges", "truncate", "out"):
                options[key] = value
            elif key != "call":
                kept[key] = value
        written = _write(name, (a, *args), kept)
        found = None if written is None else _run_reduction(written, options)
        if found is not None:
            return found
    return _plain(a, name, args, keywords)


def _either(a: RecordedLazyTensor, name: str, axis: Any, dim: Any, keywords: dict[str, Any]) -> Any:
    """Over the components, or over i or j."""
    wanted = axis if dim is None else dim
    if _is_kept(a) and isinstance(wanted, int) and (wanted == -1 or wanted == a.dim() - 1):
        return _keep(a, name, (axis, dim), keywords)
    return _reduce(a, name, (axis, dim), keywords)


def _run_reduction(written: RecordedLazyTensor, options: dict[str, Any]) -> Any:
    """The result of a reduction by an operator, or None."""
    forms, rows = _forms(written.tensors)
    described = lazy_code.describe_call(written.code, forms)
    if described is None:
        return None
    text, arguments, sizes = described
    found = [-1 if n is None else _size(n, rows) for n in sizes]
    return compiled.reduce(text, _arguments(arguments, written.tensors), _sizes=found, **options)


def _multiply(a: RecordedLazyTensor, v: torch.Tensor, options: dict[str, Any]) -> Any:
    described = _describe(a)
    V = v[:, None] if v.ndim == 1 else v
    if described is None or described[3] != 1 or str(v.dtype)[6:] != (described[4] or str(v.dtype)[6:]):
        return None
    if described[2] is not None and V.shape[-2] != described[2]:
        return None
    columns = compiled._literal(V.shape[-1])
    if columns > COLUMNS:
        if "out" in options:
            return None
        pieces = []
        for k in range(0, columns, COLUMNS):
            piece = _multiply(a, V[..., k : k + COLUMNS], options)
            if piece is None:
                return None
            pieces.append(piece)
        return torch.cat(pieces, -1)
    given, kept = {}, {}
    for key, value in options.items():
        (kept if key in ACCURACY or key in ALSO_IGNORED else given)[key] = value
    written = _write("_product", (a, V), kept)
    found = None if written is None else _run_reduction(written, given)
    return found[..., 0] if found is not None and v.ndim == 1 else found


def _solve(a: RecordedLazyTensor, other: torch.Tensor, alpha: Any, options: dict[str, Any]) -> Any:
    given, kept = {}, {"call": False}
    for key, value in options.items():
        (kept if key in ACCURACY or key in ALSO_IGNORED else given)[key] = value
    written = _write("solve", (a, other[:, None] if other.ndim == 1 else other), kept)
    if written is None:
        return None
    forms, _ = _forms(written.tensors)
    described = lazy_code.describe_call(written.code, forms)
    if described is None:
        return None
    found = compiled.solve(described[0], _arguments(described[1], written.tensors), alpha=alpha, **given)
    return found[..., 0] if found is not None and other.ndim == 1 else found


def _arguments(described: tuple, tensors: tuple[torch.Tensor, ...]) -> tuple:
    """The arguments of a reduction or of a solve, by position."""
    found: list[Any] = []
    like = None
    for argument in described:
        if argument is None:
            found.append(None)
            continue
        kind, value = argument[:2]
        if kind == "tensor":
            t = tensors[value]
            for axis in argument[2]:
                t = t.squeeze(axis)
            like = t if like is None and t.ndim else like
            found.append(t)
        else:
            found.append(tensors[value] if kind == "number" else value)
    for k, argument in enumerate(described):
        if argument is not None and argument[0] == "list" and like is not None:
            found[k] = torch.tensor(list(argument[1]), dtype=like.dtype, device=like.device)
    return tuple(found)


# ---- going on with a LazyTensor ----


def _refuse_function(function: Any) -> Any:
    raise TypeError(f"torch.{function.__name__} takes no LazyTensor: its methods compute with it")


def _itself(a: Any) -> Any:
    return a


def _real(a: Any) -> Any:
    """A LazyTensor for a recorded one, also in tuples and lists; anything else as it is."""
    if isinstance(a, (tuple, list)):
        return type(a)(map(_real, a)) if type(a) in (tuple, list) else a
    if not isinstance(a, RecordedLazyTensor):
        return a
    if a.made is None:
        a.made = lazy_code.made_real(a.code, a.tensors)
    return a.made


def _plain(a: RecordedLazyTensor, name: str, args: tuple, keywords: dict[str, Any]) -> Any:
    args, keywords = _real(args), {key: _real(value) for key, value in keywords.items()}
    return getattr(_real(a), name)(*args, **keywords)


def _attribute(a: RecordedLazyTensor, name: str) -> Any:
    return getattr(_real(a), name)


def _assign(a: RecordedLazyTensor, name: str, value: Any) -> None:
    setattr(_real(a), name, value)


def _make(cls: Any, x: Any, axis: Any, is_complex: Any) -> Any:
    return cls(_real(x), axis, is_complex)


def _kept_method(name: str) -> Any:
    def method(self: RecordedLazyTensor, *args: Any, **keywords: Any) -> Any:
        return _keep(self, name, args, keywords)

    return method


def _reduction_method(name: str, either: bool) -> Any:
    if either:

        def method(self: RecordedLazyTensor, axis: Any = -1, dim: Any = None, **keywords: Any) -> Any:
            return _either(self, name, axis, dim, keywords)

        return method

    def reduction(self: RecordedLazyTensor, *args: Any, **keywords: Any) -> Any:
        return _reduce(self, name, args, keywords)

    return reduction


def _plain_method(name: str) -> Any:
    def method(self: RecordedLazyTensor, *args: Any, **keywords: Any) -> Any:
        return _plain(self, name, args, keywords)

    return method


def _plain_property(name: str) -> property:
    return property(lambda self: _attribute(self, name), lambda self, value: _assign(self, name, value))


def _complete() -> None:
    """Give the class all methods and properties of a LazyTensor."""
    cls: Any = RecordedLazyTensor
    own = set(vars(cls))
    for name in _KEPT:
        setattr(cls, name, _kept_method(name))
    for name, row in REDUCTION_METHODS.items():
        setattr(cls, name, _reduction_method(name, row.op in COMPONENTWISE))
        setattr(cls, f"{name}_reduction", _reduction_method(f"{name}_reduction", False))
    own |= {*_KEPT, *REDUCTION_METHODS, *(f"{name}_reduction" for name in REDUCTION_METHODS)}
    for base in lazy.LazyTensor.__mro__:
        if base is object:
            continue
        for name, found in vars(base).items():
            if name in own or name in ("__new__", "__init__", "__init_subclass__", "__setattr__"):
                continue
            if isinstance(found, property):
                setattr(cls, name, _plain_property(name))
            elif inspect.isfunction(found) or isinstance(found, (staticmethod, classmethod)):
                setattr(cls, name, _plain_method(name))
    for name in ("expr", "slots", "frame"):
        setattr(cls, name, _plain_property(name))
    for name, found in vars(cls).items():
        if inspect.isfunction(found):
            compile_within_callers(cls, name)
        elif isinstance(found, property):
            for function in filter(None, (found.fget, found.fset)):
                _code_is_skipped(function.__code__)


_complete()
leave_uncompiled(sys.modules[__name__], "_plain", "_attribute", "_assign", "_make", "_refuse_function")
