"""Values get planes of the tile: first fit, a plane is free again after the last use of what it held."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import inf

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
    return tuple(_place_operands(i, planes) for i in code), planes, highest


def _lifetimes(
    code: Sequence[Instruction], fixed: Iterable[int], kept: Iterable[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """First and last place where a value is needed; one that crosses a loop's border lives through all of the loop."""
    first: dict[int, int] = dict.fromkeys(fixed, -1)
    last: dict[int, int] = {}
    for at, instruction in enumerate(code):
        for value in _values(instruction):
            first.setdefault(value, at)
            last[value] = at
    last.update(dict.fromkeys(kept, len(code)))
    begin, inside = 0, dict[int, None]()
    for at, instruction in enumerate(code):
        inside.update(dict.fromkeys(_values(instruction)))
        if instruction.op == "Loop":
            begin, inside = at, {}
        elif instruction.op == "End":
            for value in inside:
                if first[value] < begin <= last[value] <= at:
                    last[value] = at
                elif begin <= first[value] <= at < last[value]:
                    first[value] = begin
    return first, last


def _values(instruction: Instruction) -> list[int]:
    """The values that an instruction reads or writes."""
    operands = (*((instruction.out,) if instruction.out else ()), *instruction.args)
    return [x.value for x in operands if x.value is not None]


def _place_operands(instruction: Instruction, planes: dict[int, int]) -> Instruction:
    def place(x: Operand) -> Operand:
        return x if x.value is None else Operand(x.space, planes[x.value] + x.base, x.stride)

    out = place(instruction.out) if instruction.out else None
    args = tuple([place(x) for x in instruction.args])
    return Instruction(instruction.op, out, args, instruction.aux0, instruction.aux1)


class _Planes:
    """The planes that are free: gaps (first, behind the last), ascending; the last one has no end."""

    def __init__(self) -> None:
        self.gaps: list[tuple[int, float]] = [(0, inf)]

    def take(self, plane: int, size: int) -> None:
        k = bisect_right(self.gaps, (plane, inf)) - 1
        begin, end = self.gaps[k]
        self.gaps[k : k + 1] = [gap for gap in ((begin, plane), (plane + size, end)) if gap[0] < gap[1]]

    def free(self, plane: int, size: int) -> None:
        k = bisect_right(self.gaps, (plane, inf))
        begin, end = plane, float(plane + size)
        if k and self.gaps[k - 1][1] == begin:
            k -= 1
            begin = self.gaps[k][0]
        last = k + (begin < plane)
        if self.gaps[last][0] == end:
            end = self.gaps[last][1]
            last += 1
        self.gaps[k:last] = [(begin, end)]

    def fit(self, size: int) -> int:
        plane = next(begin for begin, end in self.gaps if end - begin >= size)
        self.take(plane, size)
        return plane
