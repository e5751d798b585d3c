"""Which gradients are computed in one pass over the pairs.

The gradients with respect to several variables hold the same kernel, the same differences, the same cotangent. A sum
of them all, one after another in one long vector, evaluates what they share once; if it is cheaper by the count of
the engine's work for a pair, one such sum is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce

from ..formula.expr import Expr, apply
from ..program.compile import work_of_sum


def joined(formulas: Sequence[Expr]) -> Expr:
    """The components of all formulas, one after another."""
    return reduce(lambda f, g: apply("Concat", f, g), formulas)


@lru_cache(maxsize=1024)
def passes(formulas: tuple[Expr, ...], kinds: tuple[str, ...], axis: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """How gradients are reduced: (axis, the formulas of one sum, by number) for each pass.

    Parameters
    ----------
    formulas : tuple of Expr
        Gradients.
    kinds : tuple of str
        What each is the gradient with respect to. That of a Vi is a sum over j, that of a Vj a sum over i, that of a
        Pm a sum over both, of which either may come first: it joins the pass that shares more with it.
    axis : {0, 1}
        The index over which a Pm is reduced that joins no pass.
    """
    made: list[tuple[int, tuple[int, ...]]] = []
    for k in sorted(range(len(formulas)), key=lambda k: kinds[k] == "Pm"):
        own = {"Vi": 1, "Vj": 0}.get(kinds[k], axis)
        most, place = 0, None
        for at, (over, members) in enumerate(made):
            if over == own or kinds[k] == "Pm":
                apart = _cost([formulas[m] for m in members], over) + _cost([formulas[k]], over)
                saved = apart - _cost([formulas[m] for m in (*members, k)], over)
                most, place = (saved, at) if saved > most else (most, place)
        if place is None:
            made.append((own, (k,)))
        else:
            made[place] = (made[place][0], (*made[place][1], k))
    return tuple(made)


def _cost(formulas: Sequence[Expr], axis: int) -> int:
    return work_of_sum(joined(formulas), axis)
