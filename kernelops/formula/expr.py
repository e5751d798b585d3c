"""Expr: one immutable, interned node of a formula.

Nodes are made by :func:`const`, :func:`variable` and :func:`apply` only. Two nodes with the same operation, operands
and parameters are the same object, so equality of formulas is ``is``, and a common subexpression exists once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import copysign, isfinite
from typing import Any
from weakref import WeakValueDictionary

from ..errors import FormulaError
from .cached import make_lock
from .ops import OPS, VARIABLES


class _Leaf:
    """The attributes that only variables and constants have."""

    __slots__ = ("position", "value")

    position: int
    value: float


@dataclass(frozen=True, eq=False)
class Expr(_Leaf):
    """One node: an operation on nodes, a variable, or a constant.

    Attributes
    ----------
    op : str
        A key of ``OPS``, or "Const", "Vi", "Vj", "Pm".
    args : tuple of Expr
        The operands.
    params : tuple
        Static parameters; ``(value,)`` for a constant, ``(position,)`` for a variable.
    dim : int
        Length of the vector.
    vars : tuple of Expr
        The variables it contains, ordered by position.
    indices : int
        The indices that it depends on: 1 for i, 2 for j, 3 for both, 0 for neither.
    position : int
        Of a variable only: which argument it stands for.
    value : float
        Of a constant only: each component of it.
    """

    # weakref_slot=True needs Python 3.11
    __slots__ = ("__weakref__", "args", "dim", "indices", "op", "params", "vars")

    op: str
    args: tuple[Expr, ...]
    params: tuple[Any, ...]
    dim: int
    vars: tuple[Expr, ...]
    indices: int

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        return f"<Expr {text(self)}>" if _tree_size(self) < 1000 else f"<Expr {self.op}(...) of length {self.dim}>"

    def __reduce__(self) -> tuple[Any, ...]:
        nodes = list(topological(self))  # in a row: a node that held its operands would nest as deep as the formula
        place = {id(node): k for k, node in enumerate(nodes)}
        return _made_again, ([(n.op, tuple(place[id(a)] for a in n.args), n.params, n.dim) for n in nodes],)


_interned: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()
_lock = make_lock()
_INDICES = {"Vi": 1, "Vj": 2}


def _make(op: str, args: tuple[Expr, ...], params: tuple[Any, ...], dim: int) -> Expr:
    # operands are interned already, so their identity is their value
    key = (op, *map(id, args), _distinct(op, params), dim)
    found = _interned.get(key)  # most nodes exist already, and reading needs no lock
    if found is not None:
        return found
    with _lock:
        found = _interned.get(key)
        if found is None:
            indices = _INDICES.get(op, 0)
            for a in args:
                indices |= a.indices
            found = Expr(op, args, params, dim, _variables(args), indices)
            if op in VARIABLES:
                object.__setattr__(found, "vars", (found,))
                object.__setattr__(found, "position", params[0])
            elif op == "Const":
                object.__setattr__(found, "value", params[0])
            _interned[key] = found
    return found


def _distinct(op: str, params: tuple[Any, ...]) -> Any:
    """What is equal for the same parameters only; ``repr``, which is slow, tells 0.0 from -0.0 and 1 from 1.0."""
    if not params:
        return None
    return params[0] if op == "Const" and params[0] else repr(params)


def _variables(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The variables of an operation on args, by position."""
    if not args:
        return ()
    first = args[0].vars
    if all(a.vars is first or not a.vars for a in args):
        return first
    seen = {v.position: v for a in args for v in a.vars}
    found = tuple(seen[p] for p in sorted(seen))
    # one tuple for all nodes of the same variables: the next comparison is quick
    return next((a.vars for a in args if a.vars == found), found)


def _made_again(rows: list[tuple[str, tuple[int, ...], tuple[Any, ...], int]]) -> Expr:
    """The last of some nodes, each given with the places of its operands among them."""
    nodes: list[Expr] = []
    for op, places, params, dim in rows:
        nodes.append(_make(op, tuple(nodes[k] for k in places), params, dim))
    return nodes[-1]


def const(value: float, dim: int = 1) -> Expr:
    """The constant vector of length dim whose components are all value."""
    if not isfinite(value):
        raise FormulaError(f"a constant must be finite, got {value}")
    return _make("Const", (), (float(value),), dim)


def variable(op: str, position: int, dim: int) -> Expr:
    """The variable that is argument number ``position``; op is "Vi", "Vj" or "Pm"."""
    return _make(op, (), (position,), dim)


def apply(op: str, *args: Expr, params: tuple[Any, ...] = ()) -> Expr:
    """A primitive operation on nodes; raises FormulaError if the lengths do not fit."""
    row = OPS[op]
    if len(args) != row.arity:
        raise FormulaError(f"{op} takes {row.arity} argument(s), got {len(args)}")
    return _make(op, args, params, row.dim(tuple(a.dim for a in args), params))


def is_const(e: Expr, value: float | None = None) -> bool:
    """Whether e is a constant (of that value)."""
    return e.op == "Const" and (value is None or e.value == value)


def topological(*roots: Expr) -> Iterator[Expr]:
    """Every node below the roots once, operands before the operations on them, in an order that never varies."""
    seen: set[int] = set()
    opened: set[int] = set()  # their operands lie above them on the stack
    stack = list(reversed(roots))
    while stack:
        node = stack[-1]
        mark = id(node)
        if mark in seen:
            stack.pop()
        elif mark in opened or not node.args:
            stack.pop()
            seen.add(mark)
            yield node
        else:
            opened.add(mark)
            stack.extend(a for a in reversed(node.args) if id(a) not in seen)


def substitute(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """expr with nodes (variables, as a rule) replaced; lengths are checked again."""
    done: dict[int, Expr] = {}
    for node in topological(expr):
        if node in mapping:
            done[id(node)] = mapping[node]
        elif node.args:
            args = tuple(done[id(a)] for a in node.args)
            same = all(a is b for a, b in zip(args, node.args, strict=True))
            done[id(node)] = node if same else apply(node.op, *args, params=node.params)
        else:
            done[id(node)] = node
    return done[id(expr)]


LONGEST = 2**19  # a text, read or written, has at most so many characters
_INFIX = {"Add": ("+", 3), "Subtract": ("-", 3), "Mult": ("*", 4), "Divide": ("/", 4)}  # sign, how tightly it binds
_UNARY, _TIGHT = 5, 9


def text(expr: Expr, names: Mapping[Expr, str] | None = None) -> str:
    """The formula as text that the parser reads back to the same node; variables by name if names has one.

    What is shared is written again each time: of a text that is too long for the parser "..." ends it.
    """
    pieces: list[str] = []
    todo: list[Expr | str] = [expr]
    length = 0
    while todo:
        part = todo.pop()
        if not isinstance(part, str):
            todo.extend(reversed(_parts(part, names or {})))
            continue
        pieces.append(part)
        length += len(part)
        if length > LONGEST:
            return "".join([*pieces, "..."])
    return "".join(pieces)


def _parts(node: Expr, names: Mapping[Expr, str]) -> list[Expr | str]:
    """The pieces of text and the nodes that the text of one node consists of."""
    if node in names:
        return [names[node]]
    if node.op in VARIABLES:
        return [f"Var({node.position},{node.dim},{VARIABLES.index(node.op)})"]
    if node.op == "Const":
        number = _number(node.value)
        return [number if node.dim == 1 else f"SumT({number},{node.dim})"]
    if node.op in _INFIX:
        sign, binding = _INFIX[node.op]
        left, right = node.args
        inner = _binding(right, names)
        return [
            *_bracket(left, _binding(left, names) < binding),
            sign,
            *_bracket(right, inner <= binding or inner == _UNARY),
        ]
    if _is_sign(node):
        return ["-", *_bracket(node.args[0], _binding(node.args[0], names) != _TIGHT)]
    params = [str(list(p)).replace(" ", "") if isinstance(p, tuple) else str(p) for p in node.params]
    listed: list[Expr | str] = []
    for operand in node.args:
        listed += [operand, ","]
    for param in params:
        listed += [param, ","]
    return [node.op, "(", *listed[:-1], ")"]


def _binding(node: Expr, names: Mapping[Expr, str]) -> int:
    """The precedence of the last operator in the text of a node."""
    if node in names or node.op in VARIABLES:
        return _TIGHT
    if node.op == "Const":
        return _UNARY if node.dim == 1 and _number(node.value)[0] == "-" else _TIGHT
    return _INFIX[node.op][1] if node.op in _INFIX else _UNARY if _is_sign(node) else _TIGHT


def _is_sign(node: Expr) -> bool:
    return node.op == "Minus" and not is_const(node.args[0])  # "-3" is the constant, hence Minus(3) for the operation


def _bracket(node: Expr, needed: bool) -> list[Expr | str]:
    return ["(", node, ")"] if needed else [node]


def _number(value: float) -> str:
    whole = value == int(value) and abs(value) < 2**53 and not (value == 0 and copysign(1, value) < 0)
    return str(int(value)) if whole else repr(value)


def _tree_size(expr: Expr) -> int:
    """Number of operations in the text of expr, in which shared nodes are written again and again."""
    done: dict[int, int] = {}
    for node in topological(expr):
        done[id(node)] = 1 + sum(done[id(a)] for a in node.args)
    return done[id(expr)]
