"""Values get planes of the tile: first fit, a plane is free again after the last use of what it held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..formula.ops import OPS
from .instructions import Instruction, Operand

IN_PLACE = frozenset(name for name, row in OPS.items() if row.elementwise) | {"Copy", "ExpScaled", "OutExp"}


def allocate(
    code: Sequence[Instruction], sizes: Sequence[int], fixed: dict[int, int], kept: Iterable[int]
) -> tuple[tuple[Instruction, ...], dict[int, int], int]:
    """Planes for values.

    Parameters
    ----------
    code : sequence of Instruction
        Tile operands name values.
    sizes : sequence of int
        Number of planes of each value.
    fixed : dict
        Values that are there from the start (loaded data), with their planes.
    kept : iterable of int
        Values that must still be there at the end.

    Returns
    -------
    code, planes of each value, number of planes
    """
    first, last = _lifetimes(code, fixed, kept)
    planes, taken, highest = dict(fixed), _Planes(), 0
    for value, plane in fixed.items():
        taken.take(plane, sizes[value])
        highest = max(highest, plane + sizes[value])
    born: dict[int, list[int]] = {}
    for value, at in first.items():
        if value not in fixed:
            born.setdefault(at, []).append(value)
    dying: dict[int, list[int]] = {}
    for value, at in last.items():
        dying.setdefault(at, []).append(value)
    for at, instruction in enumerate(code):
        early = instruction.op in IN_PLACE
        ends, begins = set(dying.get(at, ())), set(born.get(at, ()))
        # an elementwise result may take the place of an operand that dies here
        for value in sorted(ends - begins) if early else ():
            taken.free(planes[value], sizes[value])
        for value in sorted(begins):
            planes[value] = taken.fit(sizes[value])
            highest = max(highest, planes[value] + sizes[value])
        for value in sorted(ends & begins if early else ends):
            taken.free(planes[value], sizes[value])
    return tuple(_resolved(i, planes) for i in code), planes, highest


def _lifetimes(
    code: Sequence[Instruction], fixed: Iterable[int], kept: Iterable[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """First and last place where a value is needed; one that crosses a loop's border lives through all of the loop."""
    first: dict[int, int] = dict.fromkeys(fixed, -1)
    last: dict[int, int] = {}
    for at, instruction in enumerate(code):
        for x in (*((instruction.out,) if instruction.out else ()), *instruction.args):
            if x.value is not None:
                first.setdefault(x.value, at)
                last[x.value] = at
    last.update(dict.fromkeys(kept, len(code)))
    begin = 0
    for at, instruction in enumerate(code):
        if instruction.op == "Loop":
            begin = at
        elif instruction.op == "End":
            for value in first:
                if first[value] < begin <= last[value] <= at:
                    last[value] = at
                elif begin <= first[value] <= at < last[value]:
                    first[value] = begin
    return first, last


def _resolved(instruction: Instruction, planes: dict[int, int]) -> Instruction:
    def place(x: Operand) -> Operand:
        return x if x.value is None else Operand(x.place, planes[x.value] + x.base, x.stride)

    out = place(instruction.out) if instruction.out else None
    return replace(instruction, out=out, args=tuple(place(x) for x in instruction.args))


class _Planes:
    """Which planes are taken."""

    def __init__(self) -> None:
        self.used: set[int] = set()

    def take(self, plane: int, size: int) -> None:
        self.used.update(range(plane, plane + size))

    def free(self, plane: int, size: int) -> None:
        self.used.difference_update(range(plane, plane + size))

    def fit(self, size: int) -> int:
        plane = 0
        while any(p in self.used for p in range(plane, plane + size)):
            plane += 1
        self.take(plane, size)
        return plane
