"""Derivatives of expressions, as expressions.

``RULES`` gives, for each operation, the cotangents of its operands from the cotangent of its result. All rules stay
within the language, so derivatives of any order exist. A cotangent of length 1 stands for a vector whose components
are all equal; :func:`_fit` gives it the meaning that the operand needs.

At kinks: Sqrt' and Abs' are 0 at 0, ReLU' is 1 at 0, Sign, Step, Floor and the comparisons have derivative 0, Clamp
passes its cotangent to f where a <= f <= b, to a below and to b above, Powf' with respect to the exponent is 0 at
f = 0, and both of Atan2' are 0 at f = g = 0. That is for one operation; what a composition of them tends to where a
distance is 0 is the matter of limits.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ..errors import FormulaError
from .definition import stretch
from .distances import MOST_NESTED, align, bases, check_nesting, split
from .expr import Expr, apply, const, is_const, topological, variable
from .identities import are_equal, points
from .limits import MixedComponentsError, take_finite_powers, take_limit
from .ops import LARGEST, OPS, VARIABLES
from .simplify import simplify

_ZERO = const(0)
_MOST_MASKS = 8  # conditions around one another that hold a cotangent at 0: each of its terms has all of them


def _is_masked(g: Expr) -> bool:
    return g.op == "IfElse" and (is_const(g.args[1], 0) or is_const(g.args[2], 0))


def _apply_inside(g: Expr, linear: Callable[[Expr], Expr]) -> Expr:
    """linear(g). A cotangent held at 0 by a condition stays so, even where the other branch becomes infinite or NaN."""
    if not _is_masked(g):
        return linear(g)
    condition, *branches = g.args
    return apply("IfElse", condition, *(b if is_const(b, 0) else _apply_inside(b, linear) for b in branches))


def _apply_inside_all(g: Expr, linear: Callable[[Expr], Expr]) -> Expr:
    """The same for an operation that mixes components: there a condition must hold for all of them."""
    if not _is_masked(g) or g.args[0].dim > 1:
        return linear(g)
    condition, *branches = g.args
    return apply("IfElse", condition, *(b if is_const(b, 0) else _apply_inside_all(b, linear) for b in branches))


def _mask(condition: Expr, g: Expr, holds: bool) -> Expr:
    """g where the condition holds (or does not), elsewhere 0; of many masks around g the outer ones become one."""
    if _depth_of_masks(g) == _MOST_MASKS:
        inner, *branches = g.args
        taken = is_const(branches[1], 0)  # g is its first branch, where the inner condition is at least 0
        outside = const(-1 if taken else 1)
        merged = apply("IfElse", condition, *((inner, outside) if holds else (outside, inner)))
        return apply("IfElse", merged, *branches)
    return apply("IfElse", condition, *((g, _ZERO) if holds else (_ZERO, g)))


def _depth_of_masks(g: Expr) -> int:
    depth = 0
    while depth < _MOST_MASKS and _is_masked(g):
        g = g.args[2] if is_const(g.args[1], 0) else g.args[1]
        depth += 1
    return depth


def times(g: Expr, *factors: Expr) -> Expr:
    """g times the factors, component by component."""
    for f in factors:
        g = f if is_const(g, 1) and g.dim == 1 else _apply_inside(g, lambda b, f=f: apply("Mult", b, f))  # type: ignore[misc]
    return g


def _widen(g: Expr, d: int) -> Expr:
    """g with length d."""
    return stretch(g, d) if g.dim == d or is_const(g) else times(g, const(1, d))


def _minus(g: Expr) -> Expr:
    return times(g, const(-1))


def _over(g: Expr, f: Expr) -> Expr:
    return _apply_inside(g, lambda b: apply("Divide", b, f))


def _zero_where_zero(f: Expr, g: Expr) -> Expr:
    """g, but 0 where f is 0."""
    return apply("IfElse", apply("Minus", apply("Abs", f)), _ZERO, g)


def _pow(g: Expr, e: Expr, f: Expr) -> tuple[Expr, ...]:
    (m,) = e.params
    if not m:
        return (_ZERO,)
    return (times(g, const(m), apply("Pow", f, params=(m - 1,)) if m > -LARGEST else apply("Divide", e, f)),)


def _powf(g: Expr, e: Expr, f: Expr, p: Expr) -> tuple[Expr, ...]:
    base = apply("Mult", p, apply("Powf", f, apply("Subtract", p, const(1))))
    exponent = apply("Mult", e, apply("Log", f))
    nonzero = is_const(p) and p.value != 0  # f**0 is 1 for every f, and 0*f**-1 would be NaN at f = 0
    return times(g, base if nonzero else _zero_where_zero(p, base)), times(g, _zero_where_zero(f, exponent))


def _clamp(g: Expr, e: Expr, f: Expr, a: Expr, b: Expr) -> tuple[Expr, ...]:
    if b is f:  # the larger of a and f
        return times(g, apply("LessOrEqual", a, f)), times(g, apply("LessThan", f, a)), _ZERO
    if a is f:  # the smaller of f and b
        return times(g, apply("LessOrEqual", f, b)), _ZERO, times(g, apply("LessThan", b, f))
    # the lower bound is asked first, as the value does, which counts where the bounds cross
    above = apply("LessOrEqual", a, f)
    within, beyond = apply("Mult", above, apply("LessOrEqual", f, b)), apply("Mult", above, apply("LessThan", b, f))
    return times(g, within), times(g, apply("LessThan", f, a)), times(g, beyond)


def _extract(g: Expr, e: Expr, f: Expr) -> tuple[Expr, ...]:
    place = (e.params[0], f.dim)
    return (_apply_inside_all(_widen(g, e.dim), lambda b: apply("ExtractT", _widen(b, e.dim), params=place)),)


def _slice(g: Expr, e: Expr, f: Expr) -> tuple[Expr, ...]:
    start, _, step = e.params
    return (
        _apply_inside_all(_widen(g, e.dim), lambda b: apply("SliceT", _widen(b, e.dim), params=(start, f.dim, step))),
    )


def _spread(g: Expr, e: Expr, f: Expr) -> tuple[Expr, ...]:
    start, _, step = e.params
    taken = (start, f.dim, step)
    return (g if g.dim == 1 else _apply_inside_all(g, lambda b: apply("Slice", b, params=taken) if b.dim > 1 else b),)


def _atan2(g: Expr, e: Expr, f: Expr, h: Expr) -> tuple[Expr, ...]:
    """(h, -f)/(f^2 + h^2). If one of both is the root of 1 less the other's square, the point is on the unit circle:
    then all of the derivative is by the other one, 1 or -1 over the root, and nothing is left for the root."""
    if _is_on_circle(f, h):
        return times(g, apply("Rsqrt", h.args[0])), _ZERO
    if _is_on_circle(h, f):
        return _ZERO, _minus(times(g, apply("Rsqrt", f.args[0])))
    square = apply("Add", apply("Square", f), apply("Square", h))
    inverse = apply("IfElse", _minus(square), _ZERO, apply("Inv", square))
    return times(g, h, inverse), _minus(times(g, f, inverse))


def _is_on_circle(f: Expr, root: Expr) -> bool:
    """Whether root is the root of 1 - f^2, however that is written."""
    if root.op != "Sqrt" or root.dim != f.dim or set(root.vars) != set(f.vars):
        return False
    return are_equal(apply("Add", apply("Square", f), root.args[0]), const(1, f.dim), points())


def _part(g: Expr, start: int, count: int) -> Expr:
    return (
        g
        if g.dim == 1
        else _apply_inside_all(g, lambda b: apply("Extract", b, params=(start, count)) if b.dim > 1 else b)
    )


def _concat(g: Expr, e: Expr, f: Expr, h: Expr) -> tuple[Expr, ...]:
    return _part(g, 0, f.dim), _part(g, f.dim, h.dim)


def _tensordot(g: Expr, e: Expr, f: Expr, h: Expr) -> tuple[Expr, ...]:
    """Both cotangents are tensor products again.

    Let e = sum over the contracted axes of f*h; its axes are the kept ones of f, then the kept ones of h, in order,
    and axis r of these becomes axis permute[r]. So <g, e> contains f once: what meets f is g contracted with h over
    the kept axes of h, which leaves the kept axes of f (in the order in which g has them) and the contracted axes of
    h, each of which is the axis of f that it was contracted with. The new permutation sends each to its place in f.
    """
    dims_f, dims_h, cont_f, cont_h, permute = e.params
    kept_f = [k for k in range(len(dims_f)) if k not in cont_f]
    kept_h = [k for k in range(len(dims_h)) if k not in cont_h]
    places_f, places_h = permute[: len(kept_f)], permute[len(kept_f) :]  # the axes of g that they have become
    dims_g = [0] * len(permute)
    for place, d in zip(permute, [dims_f[k] for k in kept_f] + [dims_h[k] for k in kept_h], strict=True):
        dims_g[place] = d
    partner_f = dict(zip(cont_f, cont_h, strict=True))
    partner_h = dict(zip(cont_h, cont_f, strict=True))
    to_f = [k for _, k in sorted(zip(places_f, kept_f, strict=True))] + [partner_h[k] for k in sorted(cont_h)]
    to_h = [partner_f[k] for k in sorted(cont_f)] + [k for _, k in sorted(zip(places_h, kept_h, strict=True))]
    for_f = (tuple(dims_g), dims_h, places_h, tuple(kept_h), tuple(to_f))
    for_h = (dims_f, tuple(dims_g), tuple(kept_f), places_f, tuple(to_h))
    g = _widen(g, e.dim)
    return (
        _apply_inside_all(g, lambda b: apply("TensorDot", _widen(b, e.dim), h, params=for_f)),
        _apply_inside_all(g, lambda b: apply("TensorDot", f, _widen(b, e.dim), params=for_h)),
    )


RULES: dict[str, Callable[..., tuple[Expr, ...]]] = {  # (cotangent, result, *operands) -> one cotangent per operand
    "Minus": lambda g, e, f: (_minus(g),),
    "Inv": lambda g, e, f: (_minus(times(g, apply("Square", e))),),
    "Exp": lambda g, e, f: (times(g, e),),
    "Log": lambda g, e, f: (_over(g, f),),
    "Sqrt": lambda g, e, f: (times(g, const(0.5), apply("Rsqrt", f)),),
    "Rsqrt": lambda g, e, f: (times(g, const(-0.5), apply("Pow", e, params=(3,))),),
    "Square": lambda g, e, f: (times(g, const(2), f),),
    "Abs": lambda g, e, f: (times(g, apply("Sign", f)),),
    "Sin": lambda g, e, f: (times(g, apply("Cos", f)),),
    "Cos": lambda g, e, f: (_minus(times(g, apply("Sin", f))),),
    "Pow": _pow,
    "ReLU": lambda g, e, f: (times(g, apply("Step", f)),),
    "Sign": lambda g, e, f: (_ZERO,),
    "Step": lambda g, e, f: (_ZERO,),
    "Floor": lambda g, e, f: (_ZERO,),
    "Tanh": lambda g, e, f: (times(g, apply("Subtract", const(1), apply("Square", e))),),
    "SinXDivX": lambda g, e, f: (times(g, apply("SinXDivX", f, params=(e.params[0] + 1,))),),
    "Add": lambda g, e, f, h: (g, g),
    "Subtract": lambda g, e, f, h: (g, _minus(g)),
    "Mult": lambda g, e, f, h: (times(g, h), times(g, f)),
    "Divide": lambda g, e, f, h: (_over(g, h), _minus(times(g, apply("Divide", e, h)))),
    "Powf": _powf,
    "Atan2": _atan2,
    "Equal": lambda g, e, f, h: (_ZERO, _ZERO),
    "NotEqual": lambda g, e, f, h: (_ZERO, _ZERO),
    "LessThan": lambda g, e, f, h: (_ZERO, _ZERO),
    "LessOrEqual": lambda g, e, f, h: (_ZERO, _ZERO),
    "Clamp": _clamp,
    "IfElse": lambda g, e, c, f, h: (_ZERO, _mask(c, g, True), _mask(c, g, False)),
    "Sum": lambda g, e, f: (g,),
    "Extract": _extract,
    "ExtractT": lambda g, e, f: (_part(g, e.params[0], f.dim),),
    "Slice": _slice,
    "SliceT": _spread,
    "Concat": _concat,
    "TensorDot": _tensordot,
}


def grad(expr: Expr, var: Expr, seed: Expr) -> Expr:
    """The gradient of <seed, expr> with respect to var, simplified; its length is that of var.

    Parameters
    ----------
    expr : Expr
        The expression to be differentiated.
    var : Expr
        A variable.
    seed : Expr
        As long as expr, or of length 1, which is stretched.
    """
    return take_finite_powers(simplify(_reverse(expr, var, seed)), points())


def diff(expr: Expr, var: Expr, tangent: Expr) -> Expr:
    """The derivative of expr along tangent (as long as var, or of length 1), simplified; its length is that of expr.

    With J = d expr / d var, grad gives J^T w, which is linear in w; so its gradient along tangent is J tangent.
    """
    if expr.dim == 1:  # J is one row
        return take_finite_powers(simplify(_dot(_reverse(expr, var, const(1)), _widen(tangent, var.dim))), points())
    w = new_variable("Pm", expr.dim, expr, var, tangent)
    return grad(_reverse(expr, var, w), w, tangent)


def new_variable(op: str, dim: int, *exprs: Expr) -> Expr:
    """A variable that none of the expressions contains."""
    return variable(op, 1 + max((v.position for e in exprs for v in e.vars), default=-1), dim)


def _dot(f: Expr, g: Expr) -> Expr:
    product = apply("Mult", f, g)
    return product if product.dim == 1 else apply("Sum", product)


def _reverse(expr: Expr, var: Expr, seed: Expr) -> Expr:
    if var.op not in VARIABLES:
        raise FormulaError(f"the gradient with respect to {var}: wanted a variable")
    if seed.dim not in (1, expr.dim):
        raise FormulaError(f"a seed of length {seed.dim} for an expression of length {expr.dim}")
    if var not in expr.vars:
        return const(0, var.dim)
    expr = _align(expr)
    while True:
        try:
            return _pull_back(expr, var, seed)
        except MixedComponentsError as mixed:
            expr = split(expr, mixed.base)


@lru_cache(maxsize=256)
def _align(expr: Expr) -> Expr:
    return align(expr, points()) if bases(expr) else expr


def _pull_back(expr: Expr, var: Expr, seed: Expr) -> Expr:
    """The gradient from the last node to var; a cotangent that is infinite at 0 gets its limit (limits.py)."""
    roots = bases(expr)
    if len(roots) > MOST_NESTED:
        check_nesting(expr, var, roots)
    cotangents = {id(expr): seed}
    for node in reversed([n for n in topological(expr) if var in n.vars]):
        g = cotangents.pop(id(node), None)
        if g is None:  # nothing but zeros came back
            continue
        if node in roots:
            g = take_limit(g, node, roots[node], expr)
        if node is var:  # the first node of all in that order
            return _widen(g, var.dim)
        for arg, ga in zip(node.args, RULES[node.op](g, node, *node.args), strict=True):
            if var in arg.vars and not is_const(ga, 0):
                ga = _fit(ga, node, arg)
                cotangents[id(arg)] = apply("Add", cotangents[id(arg)], ga) if id(arg) in cotangents else ga
    return const(0, var.dim)


def _fit(g: Expr, node: Expr, arg: Expr) -> Expr:
    """The cotangent of an operand of length 1 that an elementwise operation has stretched is a sum."""
    if not OPS[node.op].elementwise or arg.dim == node.dim:
        return g
    return (
        times(g, const(node.dim)) if g.dim == 1 else _apply_inside_all(g, lambda b: apply("Sum", _widen(b, node.dim)))
    )
