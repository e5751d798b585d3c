"""Every number of an encoded program, set out of range by one on either side, makes the door of the engine refuse it.

The ranges are worked out here from what ``_tile/*.h`` reads and writes, number by number; where a field may still move,
the last value inside is accepted, so that the tests are not passed by a door that refuses everything.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest

from kernelops import _core
from kernelops.engines import cpu
from kernelops.formula.parse import parse

ALIASES = ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)", "u = Vi(40)", "v = Vj(40)"]
PROGRAMS = {  # name -> kind, formula, weight; together they have every kind of instruction
    "loop": ("sum", "Log(SqDist(x,y))*Sin(x-y)*g", None),
    "parameters": ("sum", "Exp(-Square(g)*SqDist(x,y))*Concat(y,y)", None),
    "difference": ("sum", "Exp(-g*SqDist(x,y))*(x-y)", None),
    "weighted": ("sum", "Exp(-WeightedSqDist(Square(x),x,y))", None),
    "dot": ("sum", "Clamp(x,y,g)*(x|y)", None),
    "l1": ("sum", "2.5*Sum(Abs(x-y))*IfElse(x,y,Exp(g))", None),
    "wide": ("sum", "Exp(-SqDist(u,v))*x", None),
    "tensor": ("sum", "TensorDot(TensorProd(x,y),x-y,[3,3],[3],[1],[0])", None),
    "slice": ("sum", "Slice(u*v,1,3,5)*Tanh(x)+Extract(SliceT(Floor(x-y),2,9,3),0,3)", None),
    "whole": ("sum", "Pow(x-y,3)*Powf(Square(x),y)", None),
    "exponential": ("exp", "SqDist(x,y)*g", "x*y"),
    "exponential without a factor": ("exp", "SqDist(x,y)", None),
    "best": ("best", "Exp(g)*(x-y)", None),
    "entries": ("entries", "Exp(Square(g))*(x-y)*Sum(Abs(x-y))", None),
}
DISTANCES = "SqDist", "Dot", "L1Dist", "WeightedSqDist"
ADD_TO_RESULT = "OutSum", "OutDot", "OutDiff", "OutBest", "OutEntry"
NAMES = {number: name for name, number in _core.OPCODES.items()}
PLACES = {number: name for name, number in _core.PLACES.items()}
STAGES = "param", "row", "col", "pair"
OPERANDS = {  # how many; what is not here has one, and a contraction two
    **dict.fromkeys(("Zero",), 0),
    **dict.fromkeys(("Clamp", "IfElse", "WeightedSqDist", "WideSqDist", "OutDiff"), 3),
    **dict.fromkeys(
        ("Add", "Subtract", "Mult", "Divide", "Powf", "Atan2", "Equal", "NotEqual", "LessThan", "LessOrEqual"), 2
    ),
    **dict.fromkeys(("SqDist", "Dot", "L1Dist", "TensorDot", "ExpScaled", "OutExp", "OutDot"), 2),
}


class Encoded:
    """A program in numbers that may be changed; called, it goes through the door."""

    def __init__(self, name):
        kind, formula, weight = PROGRAMS[name]
        expr, weight = (None if f is None else parse(f, ALIASES).expr for f in (formula, weight))
        p = cpu.prepare(kind, expr, weight, weight is not None, 1).program
        self.kind, self.n_out, self.n_params = _core.KINDS[p.kind], p.n_out, p.n_params
        self.constants, self.contractions = list(p.constants), list(p.contractions)
        self.code, self.planes, self.loads, self.exports = [], [], [], []
        for stage in (p.param, p.row, p.col, p.pair):
            for kept, part in zip((self.code, self.planes, self.loads, self.exports), cpu._encode(stage), strict=True):
                kept.append(part if isinstance(part, int) else part.tolist())
        self.centred = [list(row) for row in p.centred]

    def __call__(self):
        stages = zip(self.code, self.planes, self.loads, self.exports, strict=True)
        tables = self.constants, self.n_params, np.array(self.contractions, np.int32)
        centred = np.array(self.centred, np.int32).reshape(-1, 5)
        return _core.Program(self.kind, self.n_out, *tables, *map(_stage, stages), centred)

    @property
    def given(self):
        """Parameters that are not computed."""
        return len(self.constants) + sum(count for _, count, _ in self.loads[0])

    def sizes(self, stage):
        """Components of every place that the instructions of a stage may read."""
        if stage == 3:
            pair = {"row": len(self.exports[1]), "col": len(self.exports[2])}
            return {"tile": self.planes[3], "param": self.n_params} | pair
        return {"tile": self.planes[stage], "param": self.n_params if stage else self.given}

    def instructions(self):
        """(stage, place, numbers, rounds of the loop around it) of each but loops and their ends."""
        for stage, code in enumerate(self.code):
            rounds = 1
            for at, row in enumerate(code):
                name = NAMES[row[0]]
                if name in ("Loop", "End"):
                    rounds = row[1] if name == "Loop" else 1
                else:
                    yield stage, at, row, rounds


def _stage(parts):
    code, planes, loads, exports = parts
    return (
        np.array(code, np.int32).reshape(-1, _core.WIDTH),
        planes,
        np.array(loads, np.int32).reshape(-1, 3),
        np.array(exports, np.int32),
    )


class Change(NamedTuple):
    """Numbers of a program (a list and a place in it, or the name of an attribute) that are set to others."""

    what: str
    values: dict[Any, int]  # (path...) -> value


def changed(name, change):
    """The program with the change made."""
    p = Encoded(name)
    for (attribute, *path), value in change.values.items():
        if not path:
            setattr(p, attribute, value)
            continue
        holder = getattr(p, attribute)
        for step in path[:-1]:
            holder = holder[step]
        if value is None:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
    return p


def reach(p, row, q):
    """How many components in a row operand q (0: the result) has, or None for one in each round of the loop."""
    name, aux0, aux1 = NAMES[row[0]], row[1], row[2]
    if name in DISTANCES:
        return None if q == 0 else aux0
    if name == "WideSqDist":
        return (None, aux0, aux0, aux0 + 1)[q]
    if name == "TensorDot":
        return extents(p.contractions, aux0)[q]
    if name == "OutDiff" or (name == "OutDot" and aux1 > 1):
        return None if q < 2 else aux1
    return None


def extents(table, at):
    """One more than the last component that a contraction reaches in the result and in both operands."""
    n, m = table[at : at + 2]
    axes = [table[at + 2 + 4 * d : at + 6 + 4 * d] for d in range(n)]
    rest = at + 2 + 4 * n
    axes += [[table[rest + 3 * d], 0, *table[rest + 3 * d + 1 : rest + 3 * d + 3]] for d in range(m)]
    return [1 + sum((a[0] - 1) * a[1 + q] for a in axes) for q in range(3)]


def allowed(name, aux1, q, sizes):
    """The places in which operand q may be."""
    if q == 0:
        return {None} if name in ADD_TO_RESULT else {"tile"}
    scalars = {"row", "param"} & sizes.keys()
    if name in (*DISTANCES, "WideSqDist"):
        beside = {"row"} if name == "WideSqDist" else scalars
        return ({"row"}, {"col"} if name == "WideSqDist" else {"tile", "col"}, beside)[q - 1]
    if name == "OutDiff":
        return ({"tile"}, {"row"}, {"col"})[q - 1]
    if name == "OutDot" and aux1 > 1:
        return ({"tile"}, {"col"})[q - 1]
    if name == "ExpScaled" and q == 2:
        return scalars
    return scalars | {None} if name == "OutExp" and q == 2 else set(sizes)


def operands(p):
    """Changes of places, bases and strides that reach outside, and of those the last that do not."""
    bad, good = [], []
    for stage, at, row, rounds in p.instructions():
        name, sizes = NAMES[row[0]], p.sizes(stage)
        count = OPERANDS.get(name, 1)
        for q in range(4):
            where = f"operand {q} of {name} at {at} of the {STAGES[stage]} stage"
            path = "code", stage, at, 3 + 3 * q
            base, stride = (*path[:3], path[3] + 1), (*path[:3], path[3] + 2)
            place = PLACES[row[3 + 3 * q]]
            wrong = (
                [*range(-1, 6)]
                if q > count
                else [n for n in range(-1, 6) if PLACES.get(n, "?") not in allowed(name, row[2], q, sizes)]
            )
            bad += [Change(f"{where}: place {n}", {path: n}) for n in wrong if n != 0 or q <= count]
            if place is None:
                if q == 0:  # what adds to the result of the program has none of its own
                    bad += [
                        Change(f"{where}: {w}", {p: v})
                        for w, p in (("base", base), ("stride", stride))
                        for v in (-1, 1)
                    ]
                continue
            length, b, s = reach(p, row, q), row[4 + 3 * q], row[5 + 3 * q]
            room = sizes[place] - 1 - (b + (length - 1 if length is not None else (rounds - 1) * s))
            assert room >= 0, where
            bad += [Change(f"{where}: base {v}", {base: v}) for v in (-1, b + room + 1)]
            bad.append(Change(f"{where}: stride -1", {stride: -1}))
            free = name != "WideSqDist" or q == 0  # that one reads what is shifted
            if free:
                good.append(Change(f"{where}: base {b + room}", {base: b + room}))
            if length is None and rounds > 1:
                most = s + room // (rounds - 1)
                bad.append(Change(f"{where}: stride {most + 1}", {stride: most + 1}))
                good.append(Change(f"{where}: stride {most}", {stride: most}))
    return bad, good


def auxiliaries(p):
    """The same of operations, loops, lengths, and places in the result."""
    bad, good = [], []
    for stage, code in enumerate(p.code):
        for at, row in enumerate(code):
            name, path = NAMES[row[0]], ("code", stage, at)
            for number in (-1, len(NAMES)):
                bad.append(Change(f"operation {number} at {at} of the {STAGES[stage]} stage", {(*path, 0): number}))
            if name == "Loop":
                bad += [Change(f"{name} at {at}: rounds {v}", {(*path, 1): v}) for v in (-1, 0)]
                bad += [
                    Change(f"{name} at {at}: end {v}", {(*path, 2): v})
                    for v in (row[2] - 1, row[2] + 1, at, -1, len(code))
                ]
    for stage, at, row, rounds in p.instructions():
        name, path = NAMES[row[0]], ("code", stage, at)
        if name in DISTANCES:
            most = min(p.sizes(stage)[PLACES[row[3 + 3 * q]]] - row[4 + 3 * q] for q in range(1, OPERANDS[name] + 1))
            bad += [Change(f"{name}: length {v}", {(*path, 1): v}) for v in (-1, 0, most + 1)]
            good += [Change(f"{name}: length {v}", {(*path, 1): v}) for v in (1, most)]
        if name == "WideSqDist":
            bad += [Change(f"{name}: {k} of {v}", {(*path, k): v}) for k in (1, 2) for v in (row[k] - 1, row[k] + 1)]
        if name == "TensorDot":
            bad += [
                Change(f"{name}: place {v}", {(*path, 1): v})
                for v in (-1, len(p.contractions) - 1, len(p.contractions))
            ]
        if name in ADD_TO_RESULT:
            block = name in ("OutDot", "OutDiff")
            count = row[2] if block and rounds == 1 else rounds
            last = p.n_out - count
            bad += [Change(f"{name}: component {v}", {(*path, 1): v}) for v in (-1, last + 1)]
            good += [Change(f"{name}: component {v}", {(*path, 1): v}) for v in (0, last)]
            if block:
                bad += [Change(f"{name}: {v} at once", {(*path, 2): v}) for v in (-1, 0)]
                bad.append(
                    Change(f"{name}: {row[2] + 1} at once", {(*path, 2): p.n_out - row[1] + 1 if rounds == 1 else 2})
                )
    loops = [(s, at, row) for s, code in enumerate(p.code) for at, row in enumerate(code) if NAMES[row[0]] == "Loop"]
    for stage, at, row in loops:
        inside = [r for s, a, r, _ in p.instructions() if s == stage and at < a < row[2]]
        room = [p.n_out - r[1] for r in inside if NAMES[r[0]] in ADD_TO_RESULT]
        for r in inside:
            moving = [
                q for q in range(4) if PLACES[r[3 + 3 * q]] is not None and r[5 + 3 * q] and reach(p, r, q) is None
            ]
            room += [1 + (p.sizes(stage)[PLACES[r[3 + 3 * q]]] - 1 - r[4 + 3 * q]) // r[5 + 3 * q] for q in moving]
        bad.append(Change(f"Loop at {at}: rounds {min(room) + 1}", {("code", stage, at, 1): min(room) + 1}))
        good += [Change(f"Loop at {at}: rounds {v}", {("code", stage, at, 1): v}) for v in (1, min(room))]
    return bad, good


def tables(p):
    """The same of what is not code."""
    bad, good = [], []
    for stage, name in enumerate(STAGES):
        low, high = ((len(p.constants), p.given), (0, p.planes[1]), (0, p.planes[2]), (0, 0))[stage]
        bad += [Change(f"{name}: planes {v}", {("planes", stage): v}) for v in {-1, p.planes[stage] - 1}]
        for k, (_, count, plane) in enumerate(p.loads[stage]):
            path = "loads", stage, k
            bad += [Change(f"{name}: position -1", {(*path, 0): -1})]
            bad += [Change(f"{name}: {v} components", {(*path, 1): v}) for v in (-1, 0, high - plane + 1)]
            bad += [Change(f"{name}: load at {v}", {(*path, 2): v}) for v in (low - 1, high - count + 1)]
        for k, plane in enumerate(p.exports[stage]):
            wrong = (-2, -1, p.planes[stage]) if plane != -1 else (0, p.planes[stage])
            bad += [Change(f"{name}: export {v}", {("exports", stage, k): v}) for v in wrong]
            if plane != -1:
                good += [Change(f"{name}: export {v}", {("exports", stage, k): v}) for v in (0, p.planes[stage] - 1)]
    used = [
        row[1] + (row[2] if NAMES[row[0]] in ("OutDot", "OutDiff") and rounds == 1 else rounds)
        for *_, row, rounds in p.instructions()
        if NAMES[row[0]] in ADD_TO_RESULT
    ]
    bad += [Change(f"n_out {v}", {("n_out",): v}) for v in (-1, 0, max(used) - 1)]
    good.append(Change(f"n_out {max(used)}", {("n_out",): max(used)}))
    bad += [Change(f"n_params {v}", {("n_params",): v}) for v in (-1, p.n_params - 1, p.n_params + 1)]
    bad += [Change("one constant less", {("constants", k): None}) for k in range(min(1, len(p.constants)))]
    bad += [Change(f"kind {v}", {("kind",): v}) for v in (-1, len(_core.KINDS))]
    entries = _core.KINDS["entries"]
    others = sorted(set(_core.KINDS.values()) - {entries}) if p.kind == entries else [entries]
    bad += [Change(f"kind {v}", {("kind",): v}) for v in others]
    for k, row in enumerate(p.centred):
        bad += [
            Change(f"shifted vectors {k}: {v} at {q}", {("centred", k, q): v})
            for q in range(5)
            for v in (row[q] - 1, row[q] + 1)
        ]
    return bad, good


def contractions(p):
    """The same of the table of contractions: counts, sizes and strides."""
    bad, good = [], []
    for stage, _, row, _ in p.instructions():
        if NAMES[row[0]] != "TensorDot":
            continue
        table, first = p.contractions, row[1]
        n, m = table[first : first + 2]
        bad += [
            Change(f"contraction at {first}: {q} of {v}", {("contractions", first + q): v})
            for q in (0, 1)
            for v in (-1,)
        ]
        bad.append(Change("a table that is cut short", {("contractions", len(table) - 1): None}))
        places = [first + 2 + 4 * d for d in range(n)] + [first + 2 + 4 * n + 3 * d for d in range(m)]
        room = [p.sizes(stage)[PLACES[row[3 + 3 * q]]] - row[4 + 3 * q] - extents(table, first)[q] for q in range(3)]
        for d, place in enumerate(places):
            bad.append(Change(f"size 0 at {place}", {("contractions", place): 0}))
            strides = range(1, 4) if d < n else range(1, 3)
            for k in strides:
                q = k - 1 if d < n else k
                stride, steps = table[place + k], table[place] - 1
                bad.append(Change(f"stride -1 at {place + k}", {("contractions", place + k): -1}))
                if steps:
                    most = stride + room[q] // steps
                    bad.append(Change(f"stride {most + 1} at {place + k}", {("contractions", place + k): most + 1}))
                    good.append(Change(f"stride {most} at {place + k}", {("contractions", place + k): most}))
            moved = {(k - 1 if d < n else k): table[place + k] for k in strides if table[place + k]}
            if moved:
                most = table[place] + min(room[q] // s for q, s in moved.items())
                bad.append(Change(f"size {most + 1} at {place}", {("contractions", place): most + 1}))
                good.append(Change(f"size {most} at {place}", {("contractions", place): most}))
    return bad, good


PARTS = operands, auxiliaries, tables, contractions


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_number_out_of_range_is_refused(name):
    assert Encoded(name)().cost >= 1
    changes = [change for part in PARTS for change in part(Encoded(name))[0]]
    passed = []
    for change in changes:
        try:
            changed(name, change)()
        except ValueError as refused:
            assert "tile program" in str(refused)
        else:
            passed.append(change.what)
    assert len(changes) > 100 and not passed, passed


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_last_number_inside_is_accepted(name):
    for part in PARTS:
        for change in part(Encoded(name))[1]:
            assert changed(name, change)().cost >= 1, change.what


def test_every_operation_with_a_rule_of_its_own_is_among_the_programs():
    found = {NAMES[row[0]] for name in PROGRAMS for _, _, row, _ in Encoded(name).instructions()}
    control = set(_core.OPCODES) - set(list(_core.OPCODES)[: _core.OPCODES["Loop"]]) - {"Loop", "End"}
    assert control - found <= {"Zero", "Accum"}, control - found


# ---- shifted vectors, where no instruction reads them ---------------------------------------------------------------


def plain_wide():
    """The program with shifted vectors, whose distances are computed without them."""
    p = Encoded("wide")
    row = next(row for *_, row, _ in p.instructions() if NAMES[row[0]] == "WideSqDist")
    row[0], row[2], row[12:15] = _core.OPCODES["SqDist"], 0, [0, 0, 0]
    return p


def test_shifted_vectors_that_stand_in_front():
    """Where no place that is filled later follows, only the bound of the vector itself keeps it inside."""
    p = plain_wide()
    d = p.centred[0][4]
    for stage in (1, 2):
        at = p.centred[0][stage + 1]
        assert p.exports[stage][at : at + d + 1] == [-1] * (d + 1)
        p.exports[stage] = p.exports[stage][at : at + d + 1] + p.exports[stage][:at] + p.exports[stage][at + d + 1 :]
    ends = [len(p.exports[stage]) - d for stage in (1, 2)]
    for *_, code, _ in p.instructions():
        for q in range(4):
            if PLACES[code[3 + 3 * q]] in ("row", "col"):
                code[4 + 3 * q] += d + 1
    p.centred = [[ends[0], ends[1], 0, 0, d]]
    assert p().cost > 1
    for k, stage in ((0, 1), (1, 2)):
        for value in (ends[k] + 1, len(p.exports[stage]) + 5, -1):
            p.centred = [[*ends, 0, 0, d]]
            p.centred[0][k] = value
            with pytest.raises(ValueError, match="shifted vectors"):
                p()


def test_vectors_of_no_components_fill_no_place():
    p = plain_wide()
    for stage in (1, 2):
        p.exports[stage] = [e for e in p.exports[stage] if e != -1] + [-1]
    places = [len(p.exports[stage]) - 1 for stage in (1, 2)]
    for d in (0, -1):
        p.centred = [[0, 0, *places, d]]
        with pytest.raises(ValueError, match="shifted vectors"):
            p()
    for stage in (1, 2):  # one component, and its square
        p.exports[stage].append(-1)
    p.centred = [[0, 0, *places, 1]]
    assert p().cost > 1


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("name", ["SqDist", "Dot", "L1Dist", "WeightedSqDist", "WideSqDist"])
@pytest.mark.parametrize("length", [-1, 0, 1])
def test_contractions_have_rows_and_columns_among_pairs_alone(name, stage, length):
    p = Encoded("entries")
    p.code[stage] = [[_core.OPCODES[name], length, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 2, 0, 0]]
    p.planes[stage] = max(p.planes[stage], 1)
    with pytest.raises(ValueError, match="tile program"):
        p()


@pytest.mark.parametrize("op", ["Loop", "End"])
def test_loops_are_closed_once_and_not_nested(op):
    for name in ("loop", "entries"):
        p = Encoded(name)
        opens = next(at for at, row in enumerate(p.code[3]) if NAMES[row[0]] == "Loop")
        for at in (0, opens, opens + 1, p.code[3][opens][2], len(p.code[3])):
            p = Encoded(name)
            last = len(p.code[3])
            p.code[3].insert(at, [_core.OPCODES[op], 1, last, *[0] * 12])
            with pytest.raises(ValueError, match="is not closed|closes no loop"):
                p()


@pytest.mark.parametrize("op", ["OutDot", "OutDiff"])
def test_results_at_once_are_not_those_of_a_loop(op):
    """Both would count from the place of the first: one of them alone says how many there are."""
    p = Encoded("loop")
    p.n_out = 20
    tile, row, col = (_core.PLACES[place] for place in ("tile", "row", "col"))
    out = next(r for *_, r, _ in p.instructions() if NAMES[r[0]] == "OutDot")
    rest = [tile, 0, 0, col, 0, 0, 0, 0, 0] if op == "OutDot" else [tile, 0, 0, row, 0, 0, col, 0, 0]
    out[:] = [_core.OPCODES[op], 0, 1 + (op == "OutDot"), 0, 0, 0, *rest]
    with pytest.raises(ValueError, match="results at once in a loop"):
        p()
    loop = next(r for r in p.code[3] if NAMES[r[0]] == "Loop")
    loop[1] = 1
    assert p().cost > 1


def test_pairs_load_and_export_nothing():
    for part, entry in (("loads", [0, 1, 0]), ("exports", 0)):
        p = Encoded("loop")
        getattr(p, part)[3].append(entry)
        with pytest.raises(ValueError, match="tile program"):
            p()


# ---- contractions at the ends of what they may be -------------------------------------------------------------------

CONTRACTIONS = [  # table; whether it stays inside, and its products can be counted
    ([0, 0], True),
    ([0, 1, 1, 0, 0], True),
    ([1, 0, 1, 0, 0, 0], True),
    ([0, 1, 2, 1, 0], True),
    ([0, 1, 3, 1, 1], True),
    ([0, 1, 4, 1, 1], False),
    ([0, 2, 2**16, 0, 0, 2**15 - 1, 0, 0], True),
    ([0, 2, 2**16, 0, 0, 2**15, 0, 0], False),
    ([0, 1, 2**31 - 1, 0, 0], True),
    ([0, 1, 0, 0, 0], False),
    ([0, 1, -1, 0, 0], False),
    ([0, 1, 1, -1, 0], False),
    ([0, 1, 1, 0, -1], False),
    ([1, 0, 1, -1, 0, 0], False),
    ([-1, 1, 1, 0, 0], False),
    ([1, -1, 1, 0, 0, 0], False),
    ([1, 1, 1, 0, 0, 0, 1, 0], False),
    ([0], False),
    ([], False),
]


@pytest.mark.parametrize(("table", "inside"), CONTRACTIONS, ids=str)
def test_contractions_at_the_ends(table, inside):
    p = Encoded("tensor")
    row = next(row for *_, row, _ in p.instructions() if NAMES[row[0]] == "TensorDot")
    row[3:12] = [_core.PLACES["tile"], 0, 0, _core.PLACES["row"], 0, 0, _core.PLACES["col"], 0, 0]
    p.code[3], p.loads[3], p.contractions = [row], [], list(table)
    p.planes[3] = 1
    for at in (-1, len(table) - 1, len(table)):
        row[1] = at
        with pytest.raises(ValueError, match="tile program: no contraction at"):
            p()
    row[1] = 0
    if inside:
        assert p().cost >= 1
    else:
        with pytest.raises(ValueError, match="tile program: "):
            p()
