"""Checks that an encoded program stays inside its memory: the C code behind trusts what passes here.

An instruction is a list of 15 numbers: operation, aux0, aux1, then space, base and stride of the result and of three
operands; all zeros if there is none. ``_tile/ops.h`` says what each operation reads and adds to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from ..formula.ops import OPS
from .instructions import COL, FILLED_LATER, PARAM, ROW, TILE

Code = list[list[int]]
Sizes = Mapping[str | None, int]
# the spaces that an operand may be in; how many components it has in a row, or None for one in each round
Wanted = tuple[tuple[str | None, ...], int | None]

MOST_PRODUCTS = 2**31 - 1  # one contraction makes at most so many products
MOST_COST = 2**24  # the work of a pair counts as no more, so that its products with numbers of pairs fit 64 bits

DISTANCES = ("SqDist", "Dot", "L1Dist", "WeightedSqDist")
BLOCKS = ("OutDot", "OutDiff")  # add to aux1 components of the result at once
NO_OUT = (*BLOCKS, "OutSum", "OutBest", "OutEntry")  # add to the result of the program alone
RESULTS = (*NO_OUT, "OutExp")
EXPONENTIALS = ("Exp", "ExpScaled")
SLOW_OPERATIONS = frozenset(name for name, op in OPS.items() if op.slow)
SCALARS = (ROW, PARAM)
ARITY = {name: op.arity for name, op in OPS.items() if op.elementwise} | {
    **dict.fromkeys(("Zero",), 0),
    **dict.fromkeys(("Copy", "Accum", "OutSum", "OutBest", "OutEntry"), 1),
    **dict.fromkeys(("SqDist", "Dot", "L1Dist", "TensorDot", "ExpScaled", "OutDot", "OutExp"), 2),
    **dict.fromkeys(("WeightedSqDist", "WideSqDist", "OutDiff"), 3),
}


class Names(NamedTuple):
    """The names of operations, spaces and kinds, by the engine's numbers."""

    operations: Sequence[str]
    places: Mapping[int, str | None]
    kinds: Mapping[int, str]


class Stage(NamedTuple):
    """One stage in numbers; as :class:`.instructions.Stage`."""

    code: Code
    planes: int
    loads: list[list[int]]
    exports: list[int]


class Encoded(NamedTuple):
    """A program in numbers; as :class:`.instructions.Program`."""

    names: Names
    kind: int
    n_out: int
    n_constants: int
    n_params: int
    contractions: list[int]
    param: Stage
    row: Stage
    col: Stage
    pair: Stage
    centred: list[list[int]]


def verify(p: Encoded) -> None:
    """Raise ValueError unless operands are inside their spaces, loops closed and tables in bounds."""
    if p.kind not in p.names.kinds or p.n_out < 1:
        _fail(f"kind {p.kind}, {p.n_out} components of the result")
    raw = p.n_constants + sum(count for _, count, _ in p.param.loads)
    if raw + len(p.param.exports) != p.n_params:
        _fail(f"{p.n_params} parameters, of which {raw} are given and {len(p.param.exports)} computed")
    _verify_stage(p, p.param, {TILE: p.param.planes, PARAM: raw}, (p.n_constants, raw), least_export=0)
    for s in (p.row, p.col):
        _verify_stage(p, s, {TILE: s.planes, PARAM: p.n_params}, (0, s.planes), least_export=FILLED_LATER)
    spaces: Sizes = {TILE: p.pair.planes, PARAM: p.n_params, ROW: len(p.row.exports), COL: len(p.col.exports)}
    _verify_stage(p, p.pair, spaces, (0, 0), least_export=0)
    if p.pair.exports:
        _fail(f"pairs export {len(p.pair.exports)} planes, which nothing reads")
    _verify_centred(p)


def two_sided(p: Encoded) -> bool:
    """Whether a verified program ends in one sum, of a scalar or of a scalar times columns, and has no other result."""
    code, operations = p.pair.code, p.names.operations
    if p.names.kinds[p.kind] != "sum" or not code or any(operations[row[0]] in RESULTS for row in code[:-1]):
        return False
    number, aux0, aux1 = code[-1][:3]
    first, second = (p.names.places.get(code[-1][k]) for k in (6, 9))
    if first != TILE:
        return False
    if operations[number] == "OutDot":
        return second == COL and aux0 == 0 and aux1 == p.n_out
    return operations[number] == "OutSum" and p.n_out == 1


def decays(p: Encoded) -> bool:
    """Whether the sums of a verified program have exponentials among their terms."""
    return p.names.kinds[p.kind] == "sum" and any(p.names.operations[row[0]] in EXPONENTIALS for row in p.pair.code)


def pair_cost(p: Encoded) -> int:
    """The work of one pair of a verified program, an addition being 1; from 1 to ``MOST_COST``."""
    operations = p.names.operations
    return count_work(((operations[number], aux0, aux1) for number, aux0, aux1, *_ in p.pair.code), p.contractions)


def count_work(code: Iterable[tuple[str, int, int]], contractions: list[int]) -> int:
    """The work of instructions, given as (operation, aux0, aux1); as :func:`pair_cost`."""
    total, rounds = 0, 1
    for op, aux0, aux1 in code:
        if op in ("Loop", "End"):
            rounds = aux0 if op == "Loop" else 1
        elif op in DISTANCES:
            total += rounds * (1 + aux0 // 4)
        elif op == "WideSqDist":
            total += rounds * (1 + aux0 // 8)
        elif op in BLOCKS:
            total += rounds * (1 + aux1 // 4)
        elif op == "TensorDot":
            total += rounds * _contraction(contractions, aux0)[3]
        else:
            total += rounds * (16 if op in SLOW_OPERATIONS else 1)
    return min(max(total, 1), MOST_COST)


def _fail(text: str) -> NoReturn:
    raise ValueError(f"tile program: {text}")


def _verify_stage(p: Encoded, s: Stage, sizes: Sizes, loads_into: tuple[int, int], least_export: int) -> None:
    """sizes: how many components there are in each space that may be read; loads_into: planes that loads may fill;
    least_export: FILLED_LATER if something fills such an export."""
    if s.planes < 0:
        _fail(f"{s.planes} planes")
    if s.code:
        _verify_code(p, s, sizes)
    for position, count, plane in s.loads:
        if position < 0 or count < 1 or not loads_into[0] <= plane <= loads_into[1] - count:
            _fail(f"variable {position} does not fit at plane {plane}")
    for plane in s.exports:
        if not least_export <= plane < s.planes:
            _fail("an export lies outside the tile")


def _verify_code(p: Encoded, s: Stage, sizes: Sizes) -> None:
    """Check that every operand that an instruction needs lies inside its space in all rounds of its loop."""
    operations = p.names.operations
    rounds, end = 1, -1
    for at, row in enumerate(s.code):
        number, aux0, aux1 = row[:3]
        if not 0 <= number < len(operations):
            _fail(f"no operation has the number {number}")
        op = operations[number]
        if op == "Loop":
            if end >= 0 or aux0 < 1 or not at < aux1 < len(s.code) or s.code[aux1][0] != operations.index("End"):
                _fail(f"the loop at {at} is not closed")
            rounds, end = aux0, aux1
        elif op == "End":
            if at != end:
                _fail(f"End at {at} closes no loop")
            rounds, end = 1, -1
        else:
            _verify_operands(p, op, at, row, rounds, sizes)
        if op in RESULTS:
            _verify_result(p, op, aux0, aux1, rounds, ends_program=s is p.pair)


def _verify_operands(p: Encoded, op: str, at: int, row: list[int], rounds: int, sizes: Sizes) -> None:
    arity = ARITY[op]
    wanted = _operand_rules(p, op, row, tuple(sizes))
    if op in DISTANCES and row[1] < 1:
        _fail(f"instruction {at} contracts {row[1]} components")
    if op in NO_OUT and any(row[3:6]):
        _fail(f"instruction {at} has a result in {row[3:6]}: {op} adds to that of the program")
    if op == "WideSqDist" and [row[7], row[10], row[13], row[2], row[1]] not in p.centred:
        _fail(f"instruction {at} reads vectors that are not shifted")
    for q in range(op in NO_OUT, 1 + arity):
        number, base, stride = row[3 + 3 * q : 6 + 3 * q]
        spaces, count = wanted[q]
        if number == 0 and None in spaces:
            continue
        space = p.names.places.get(number)
        size = sizes.get(space, 0)
        last = base + (count - 1 if count is not None else (rounds - 1) * stride)
        if space not in spaces or not (0 <= base and 0 <= stride and last < size):
            _fail(f"operand {q} of instruction {at} reaches {last} of {size} in {space}")
    if any(row[6 + 3 * arity :: 3]):  # all have a say in how many rows go at once
        _fail(f"instruction {at} has more than {arity} operands")


def _operand_rules(p: Encoded, op: str, row: list[int], vectors: tuple[str | None, ...]) -> list[Wanted]:
    """The spaces that the result and the operands of an instruction may be in, and how much of them it touches."""
    aux0, aux1 = row[1:3]
    if op in DISTANCES:
        return [((TILE,), None), ((ROW,), aux0), ((TILE, COL), aux0), (SCALARS, aux0)]
    if op == "WideSqDist":
        return [((TILE,), None), ((ROW,), aux0), ((COL,), aux0), ((ROW,), aux0 + 1)]
    if op == "TensorDot":
        out, a, b, _ = _contraction(p.contractions, aux0)
        return [((TILE,), out), (vectors, a), (vectors, b)]
    if op == "OutDiff":
        return [((TILE,), None), ((TILE,), None), ((ROW,), aux1), ((COL,), aux1)]
    if op == "OutDot" and aux1 > 1:
        return [((TILE,), None), ((TILE,), None), ((COL,), aux1)]
    if op == "ExpScaled":
        return [((TILE,), None), (vectors, None), (SCALARS, None)]
    if op == "OutExp":
        return [((TILE,), None), (vectors, None), ((*SCALARS, None), None)]
    return [((TILE,), None), *[(vectors, None)] * 3]


def _verify_result(p: Encoded, op: str, aux0: int, aux1: int, rounds: int, ends_program: bool) -> None:
    """Check the components of the result that an instruction adds to."""
    block = op in BLOCKS
    if (op == "OutEntry") != (p.names.kinds[p.kind] == "entries"):
        _fail(f"{op} in a program of kind {p.names.kinds[p.kind]}")
    if block and (aux1 < 1 or (rounds > 1 and (aux1 > 1 or op == "OutDiff"))):
        _fail(f"{aux1} results at once in a loop of {rounds}")
    count = aux1 if block and rounds == 1 else 1 if op == "OutExp" else rounds
    if not ends_program or not 0 <= aux0 <= p.n_out - count:
        _fail(f"result component {aux0}+{count - 1} of {p.n_out}")


def _verify_centred(p: Encoded) -> None:
    """Check that shifted vectors fill all the exports that are left for them, and read others."""
    for k, s in enumerate((p.row, p.col)):
        filled: list[int] = []
        sound = True
        for *pair, d in p.centred:
            sound = sound and 1 <= d and 0 <= pair[k] <= len(s.exports) - d
            sound = sound and FILLED_LATER not in s.exports[pair[k] : pair[k] + d]
            filled += range(pair[2 + k], pair[2 + k] + d + 1) if sound else ()
        if not sound or sorted(filled) != [at for at, e in enumerate(s.exports) if e == FILLED_LATER]:
            _fail(f"shifted vectors {p.centred} do not fit the exports")


def _contraction(table: list[int], at: int) -> list[int]:
    """Components (the highest plus one) of result and operands that entry ``at`` reaches, and how many products."""
    if not 0 <= at <= len(table) - 2:
        _fail(f"no contraction at {at}")
    n_out, n_cont = table[at : at + 2]
    body = table[at + 2 : at + 2 + 4 * n_out + 3 * n_cont]
    if n_out < 0 or n_cont < 0 or len(body) != 4 * n_out + 3 * n_cont:
        _fail(f"the contraction at {at} is cut short")
    reach = [1, 1, 1, 1]
    axes = [body[4 * d : 4 * d + 4] for d in range(n_out)]
    axes += [[body[d], 0, body[d + 1], body[d + 2]] for d in range(4 * n_out, len(body), 3)]
    for size, *strides in axes:
        if size < 1 or min(strides) < 0:
            _fail(f"the contraction at {at} has an axis of {size} with strides {strides}")
        for q in range(3):
            reach[q] += (size - 1) * strides[q]
        reach[3] *= size
    if reach[3] > MOST_PRODUCTS:
        _fail(f"the contraction at {at} adds {reach[3]} products")
    return reach
