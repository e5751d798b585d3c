"""What torch.compile sees of a call: checks of shapes, and one operator of custom_ops.py.

The functions here are traced, with tensors that have no data and sizes that may be unknown. They return None for a call
that no graph can hold, among them every call that will be refused: it then runs uncompiled (uncompiled.py), as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import forward_ad

from ..operators.system import SolveSpec
from ..reductions.kinds import REDUCTIONS
from ..reductions.reduction import Reduction
from ..solvers.options import OPTION_NAMES, SolveOptions
from .autograd import has_derivative
from .spec_text import reduction_of, solve_of, text_of

FLOATS = (torch.float16, torch.float32, torch.float64)


def constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have torch.compile call a function while it traces, and take what it returns as a constant.

    That is what torch.compiler.assume_constant_result does, which would import the compiler here and now.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def reduce(
    genred: Any,
    args: tuple,
    /,
    backend: Any = "auto",
    device_id: Any = -1,
    ranges: Any = None,
    truncate: Any = None,
    out: Any = None,
    _sizes: Any = (-1, -1),
    **unknown: Any,
) -> Any:
    """The result of ``genred(*args, ...)`` by an operator, or None; the Genred may be given as text."""
    if unknown or ranges is not None or truncate is not None or out is not None or not _is_here(backend, device_id):
        return None
    described = describe_reduction(genred)
    if described is None or _is_transformed():
        return None
    text, places, dtype, differentiable, several = described
    tensors = _check_tensors(args, places, dtype, backend)
    if tensors is None or not (differentiable or not torch.is_grad_enabled() or not _any_requires_grad(tensors)):
        return None
    found = torch.ops.kernelops.reduce(tensors, list(_sizes), text)
    return (found[0], found[1]) if several else found[0]


def solve(
    solver: Any,
    args: tuple,
    /,
    backend: Any = "auto",
    device_id: Any = -1,
    alpha: Any = 1e-10,
    ranges: Any = None,
    truncate: Any = None,
    x0: Any = None,
    return_solution: Any = False,
    **options: Any,
) -> Any:
    """The result of ``solver(*args, ...)`` by an operator, or None; the KernelSolve may be given as text."""
    if ranges is not None or truncate is not None or return_solution is not False or not _is_here(backend, device_id):
        return None
    word, start = (None, x0) if isinstance(x0, torch.Tensor) else (x0, None)
    words = {name: _literal(value) for name, value in options.items() if value is not None}
    if not all([isinstance(value, (bool, int, float, str)) for value in (word or "", *words.values())]):
        return None
    if "precond" in options and options["precond"] is None:
        words["precond"] = None
    described = describe_solve(solver, _literal(word), **words)
    if described is None or _is_transformed():
        return None
    text, places, dtype, unknown = described
    tensors = _check_tensors(args, places, dtype, backend)
    if tensors is None:
        return None
    b = args[unknown]
    alpha, n = _check_alpha(alpha, max([t.ndim for t in tensors]) == 2, b), b.shape[-2]
    if alpha is None or not _are_rows(args, places, n):
        return None
    if start is not None:
        if start.shape != b.shape or start.dtype not in FLOATS:
            return None
        start = start.detach()
    return torch.ops.kernelops.solve(tensors, alpha, start, None, text)[0].to(b.dtype)


@constant
def describe_reduction(genred: Any) -> tuple | None:
    """The text of a reduction and what its arguments must be; None where there is none."""
    spec: Reduction = reduction_of(genred) if isinstance(genred, str) else genred.spec
    text = text_of(spec) if spec.variables else None
    if text is None:
        return None
    kind = REDUCTIONS[spec.op]
    differentiable = has_derivative(spec) or kind.results == ("indices",)
    return text, *_requirements(spec), differentiable, len(kind.results) > 1


@constant
def describe_solve(solver: Any, x0: Any, **options: Any) -> tuple | None:
    """The text of a solve and what its arguments must be; None where there is none, or options are not right."""
    given = [options.pop(name, None) for name in ("eps", "rtol")]
    if None not in given:
        return None
    if given != [None, None]:
        options["rtol"] = given[0] if given[1] is None else given[1]
    if not set(options) <= set(OPTION_NAMES) or options.get("state") is not None:
        return None
    try:
        spec: SolveSpec = solve_of(solver) if isinstance(solver, str) else solver.spec
        spec = replace(spec, options=SolveOptions(x0=x0, **options))
        text = text_of(spec)
    except (ValueError, TypeError):
        return None
    return None if text is None else (text, *_requirements(spec), spec.unknown.position)


def _requirements(spec: Reduction | SolveSpec) -> tuple[tuple[tuple[int, str, int], ...], str | None]:
    """Position, kind and length of the variables, and the name of the dtype that arrays must have."""
    found = {v.position: (v.position, v.op, v.dim) for v in spec.variables}
    return tuple(found[p] for p in sorted(found)), None if spec.dtype is None else spec.dtype.name


def _is_here(backend: Any, device_id: Any) -> bool:
    return isinstance(backend, str) and backend in ("auto", "CPU") and type(device_id) is int and device_id == -1


def _literal(value: Any) -> Any:
    """The value, as a constant where torch.compile holds a symbol for it: a key of a dictionary is one."""
    if isinstance(value, bool):
        return True if value else False  # noqa: SIM210
    for kind in (int, float, str):
        if isinstance(value, kind):
            (value,) = {kind(value): None}
            break
    return value


def _is_transformed() -> bool:
    """Whether a transform of torch.func is at work, or forward mode: of both, operators know nothing."""
    return forward_ad._current_level >= 0 or torch._C._functorch.get_dynamic_layer_stack_depth() > 0


def _any_requires_grad(tensors: list[torch.Tensor]) -> bool:
    return any([t.requires_grad for t in tensors])


def _check_tensors(args: tuple, places: tuple, dtype: str | None, backend: str) -> list[torch.Tensor] | None:
    """The tensors of the variables, with vectors for numbers; None for a call that will be refused, or may be."""
    if len(args) != places[-1][0] + 1:
        return None
    first = None
    for p, kind, _ in places:
        if isinstance(args[p], torch.Tensor) and first is None and (kind != "Pm" or args[p].ndim):
            first = args[p]
    if first is None or first.dtype not in FLOATS or (dtype is not None and first.dtype != getattr(torch, dtype)):
        return None
    if backend == "CPU" and first.device.type != "cpu":
        return None
    tensors = []
    for p, kind, dim in places:
        a = args[p]
        if kind == "Pm" and isinstance(a, (int, float)) and not isinstance(a, bool):
            a = _vector(a).to(first.device, first.dtype)
        elif not isinstance(a, torch.Tensor) or a.layout is not torch.strided:
            return None
        elif kind == "Pm" and a.ndim == 0:
            if a.dtype == torch.bool or a.is_complex():
                return None
            a = a.reshape(1).to(first.device, first.dtype)
        core = 1 if kind == "Pm" else 2
        if a.dtype != first.dtype or a.device != first.device or a.ndim < core or a.shape[-1] != dim:
            return None
        tensors.append(a)
    return tensors if _fit(tensors, places) else None


def _vector(number: float) -> torch.Tensor:
    """One number; by a product, which torch.compile does not compile anew for another number."""
    return torch.ones(1, dtype=torch.float64) * float(number)


def _fit(tensors: list[torch.Tensor], places: tuple) -> bool:
    """Whether rows of one index agree, and batch dimensions broadcast."""
    rows: dict[str, Any] = {}
    whole: list[Any] = []
    for t, (_, kind, _dim) in zip(tensors, places, strict=True):
        if kind != "Pm":
            if kind in rows and rows[kind] != t.shape[-2]:
                return False
            rows[kind] = t.shape[-2]
        batch = list(t.shape[: t.ndim - (1 if kind == "Pm" else 2)])
        while len(whole) < len(batch):
            whole.insert(0, 1)
        for k in range(1, len(batch) + 1):
            if batch[-k] != 1:
                if whole[-k] != 1 and whole[-k] != batch[-k]:
                    return False
                whole[-k] = batch[-k]
    return True


def _are_rows(args: tuple, places: tuple, n: Any) -> bool:
    """Whether all variables with rows have n of them."""
    for p, kind, _ in places:
        if kind != "Pm" and args[p].shape[-2] != n:
            return False
    return True


def _check_alpha(alpha: Any, single: bool, b: torch.Tensor) -> torch.Tensor | None:
    """alpha in the shape, () or (n, 1), in which it meets the rows of b; None where it is not clear."""
    if isinstance(alpha, (int, float)) and not isinstance(alpha, bool):
        return _vector(alpha).reshape(())
    if not isinstance(alpha, torch.Tensor) or alpha.layout is not torch.strided or alpha.dtype not in FLOATS:
        return None
    if alpha.ndim == 0:
        return alpha
    if alpha.shape in ((1,), (1, 1)):
        return alpha.reshape(())
    if single and alpha.shape in ((b.shape[-2],), (b.shape[-2], 1)):
        return alpha.reshape(b.shape[-2], 1)
    return None
