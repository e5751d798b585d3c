"""Slots: what the variables of a formula stand for, and how formulas come to share them.

The variables of a LazyTensor's formula stand at positions 0, 1, ... of its own tuple of slots. Formulas are joined by
appending slots and renumbering, in an order that depends on the user's code alone, never on values or on addresses. So
the same code gives the same formula at every step of a loop, and nothing is compiled again.

A variable is the same as another only if it is the same slot, if the user gave the same object for the same index, or
if it is the same symbolic variable. Memory says nothing: x and x.detach() share it and must not share a gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ...errors import ArgumentError
from ...formula.expr import Expr, substitute, variable

Places = tuple[int, ...]


class Slot:
    """What one variable stands for.

    Attributes
    ----------
    values : array, number, tuple of numbers or None
        What a reduction is called with; None for a symbolic variable, which the call gives.
    kind : str
        "Vi", "Vj" or "Pm".
    given : object or None
        What the user gave, which values is a view of.
    position : int or None
        Of a symbolic variable: its place among the arguments of the call.
    length : int
        Of a symbolic variable: that of the vector.
    """

    __slots__ = ("given", "key", "kind", "length", "position", "values")

    def __init__(self, values: Any, kind: str, given: Any = None, position: int | None = None, length: int = 0) -> None:
        self.values, self.kind, self.given, self.position, self.length = values, kind, given, position, length
        # a slot holds what the user gave, so that its address stays its own
        self.key: Any = id(self) if given is None else (id(given), kind)
        if position is not None:
            self.key = ("symbolic", position, kind, length)

    def of_kind(self, kind: str) -> Slot:
        """The same values, for another index."""
        return self if kind == self.kind else Slot(self.values, kind, self.given, self.position, self.length)

    def __reduce__(self) -> tuple[Any, ...]:
        return Slot, (self.values, self.kind, None, self.position, self.length)


Slots = tuple[Slot, ...]


def join_slots(first: Slots, second: Slots) -> tuple[Slots, Places | None, Places | None]:
    """The slots of two operands, and for each operand where its own have gone; None if they have not moved.

    Those of the operand that has more come first and keep their places, so that a long sum is not renumbered for each
    term that is added to it.

    Raises
    ------
    ArgumentError
        If a symbolic variable has two lengths.
    """
    if first is second or not second:
        return first, None, None
    if not first:
        return second, None, None
    if len(second) > len(first):
        joined, places = _append(second, first)
        return joined, places, None
    joined, places = _append(first, second)
    return joined, None, places


def _append(kept: Slots, added: Slots) -> tuple[Slots, Places]:
    """Slots with others behind them, and where the latter have gone."""
    found = {slot.key: k for k, slot in enumerate(kept)}
    places, new = [], []
    for slot in added:
        place = found.get(slot.key)
        if place is None:
            place = found[slot.key] = len(found)
            new.append(slot)
        places.append(place)
    joined = (*kept, *new) if new else kept
    if any(slot.position is not None for slot in new):
        _check_lengths(joined)
    return joined, tuple(places)


def _check_lengths(slots: Slots) -> None:
    lengths: dict[int, int] = {}
    for slot in slots:
        if slot.position is not None and lengths.setdefault(slot.position, slot.length) != slot.length:
            raise ArgumentError(
                f"symbolic variable {slot.position} has lengths {lengths[slot.position]} and {slot.length}: "
                "wanted one length for one position"
            )


@lru_cache(maxsize=4096)
def move(expr: Expr, places: Places) -> Expr:
    """The formula with its variables at other positions; loops ask for the same ones again and again."""
    return substitute(expr, {v: variable(v.op, places[v.position], v.dim) for v in expr.vars})


@lru_cache(maxsize=1024)
def by_position(*exprs: Expr) -> dict[int, Expr]:
    """The variables of some formulas over common slots, by their positions, in ascending order."""
    found = {v.position: v for e in exprs for v in e.vars}
    return {p: found[p] for p in sorted(found)}
