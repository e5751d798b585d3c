"""Tile programs: how they read, that nothing is computed for each pair that need not be, how planes are allotted."""

import pytest
import usual
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from language.strategies import TAME_TENSOR, formulas

from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.program import compile as tile
from kernelops.program import lowering
from kernelops.program.allocate import allocate
from kernelops.program.compile import compile_best, compile_exp, compile_sum

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)", "e = Vi(2)", "m = Pm(6)"]

GOLDEN = {
    (usual.SCALED_GAUSS, 1): """
constants none
once:
  load variable 3 (1) -> 0
  tile[0] = Minus(param[0])
  export 0
each row:
  load variable 0 (3) -> 0
  export 0, 1, 2
each column:
  load variable 1 (3) -> 0
  load variable 2 (2) -> 3
  export 0, 1, 2, 3, 4
each pair:
  tile[0] = SqDist(row[0+k], col[0+k], 3)
  tile[0] = ExpScaled(tile[0], param[1])
  result[0+k] <- OutDot(tile[0], col[3+k], 2)
""",
    ("(1+Norm2(x-y))*Exp(-Norm2(x-y))*e", 0): """
constants 1, -1
once:
  nothing
each row:
  load variable 1 (3) -> 0
  export 0, 1, 2
each column:
  load variable 0 (3) -> 0
  load variable 4 (2) -> 3
  export 0, 1, 2, 3, 4
each pair:
  tile[0] = SqDist(row[0+k], col[0+k], 3)
  tile[0] = Sqrt(tile[0])
  tile[1] = Add(param[0], tile[0])
  tile[0] = ExpScaled(tile[0], param[1])
  tile[0] = Mult(tile[1], tile[0])
  result[0+k] <- OutDot(tile[0], col[3+k], 2)
""",
    ("Sin(x-y)*(Exp(y)|Square(x)*y)", 1): """
constants none
once:
  nothing
each row:
  load variable 0 (3) -> 0
  for k < 3:
    tile[3+k] = Square(tile[0+k])
  export 3, 4, 5, 0, 1, 2
each column:
  load variable 1 (3) -> 0
  for k < 3:
    tile[6] = Exp(tile[0+k])
    tile[3+k] = Mult(tile[6], tile[0+k])
  export 3, 4, 5, 0, 1, 2
each pair:
  tile[0] = Dot(row[0+k], col[0+k], 3)
  for k < 3:
    tile[1] = Subtract(row[3+k], col[3+k])
    tile[1] = Sin(tile[1])
    result[0+k] <- OutDot(tile[0], tile[1])
""",
    ("Concat(x,Exp(y))*m", 1): """
constants none
once:
  load variable 5 (6) -> 0
each row:
  load variable 0 (3) -> 0
  export 0, 1, 2
each column:
  load variable 1 (3) -> 0
  for k < 3:
    tile[3+k] = Exp(tile[0+k])
  export 3, 4, 5
each pair:
  for k < 3:
    tile[0+k] = Copy(row[0+k])
  for k < 3:
    tile[3+k] = Copy(col[0+k])
  for k < 6:
    result[0+k] <- OutDot(tile[0+k], param[0+k])
""",
    ("Square(MatVecMult(m,x-y))+Square(2*g)", 1): """
constants 2
once:
  load variable 5 (6) -> 1
  load variable 3 (1) -> 7
  tile[0] = Mult(param[0], param[7])
  tile[0] = Square(tile[0])
  export 0
each row:
  load variable 0 (3) -> 0
  export 0, 1, 2
each column:
  load variable 1 (3) -> 0
  export 0, 1, 2
each pair:
  for k < 3:
    tile[0+k] = Subtract(row[0+k], col[0+k])
  tile[3+k] = TensorDot(param[1+k], tile[0+k], 0)
  for k < 2:
    tile[0] = Square(tile[3+k])
    tile[0] = Add(tile[0], param[8])
    result[0+k] <- OutSum(tile[0])
""",
}


@pytest.mark.parametrize(("formula", "axis"), GOLDEN)
def test_listing(formula, axis):
    assert str(compile_sum(parse(formula, ALIASES).expr, axis)) == GOLDEN[formula, axis].strip()


def test_how_other_reductions_end():
    f, b = (parse(t, ALIASES).expr for t in ("-SqDist(x,y)", "b"))
    ends = [str(p.pair).splitlines()[-4:] for p in (compile_exp(f, b, True, 1), compile_exp(f, None, False, 1))]
    assert ends[0] == [
        "  tile[0] = SqDist(row[0+k], col[0+k], 3)",
        "  tile[0] = OutExp(tile[0], param[0])",
        "  result[0+k] <- OutDot(tile[0], col[3+k], 2)",
        "  result[2+k] <- OutSum(tile[0])",
    ]
    assert ends[1][-2:] == ["  tile[0] = OutExp(tile[0], param[0])", "  result[0+k] <- OutSum(tile[0])"]
    assert str(compile_best(f, 1).pair).splitlines()[-1] == "  result[0+k] <- OutBest(tile[0])"


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_is_left_for_the_pairs_needs_them(case, axis):
    """Every instruction meets a row with a column, or reads what another has computed for the pair."""
    for i in compile_sum(parse(case.formula, case.aliases).expr, axis).pair.code:
        places = {x.space for x in i.args}
        moves = i.op in ("Copy", "Zero", "Loop", "End") or i.op.startswith("Out")
        assert moves or "tile" in places or places >= {"row", "col"}, str(i)


def test_one_part_is_computed_once():
    f = parse("Exp(-SqDist(x,y))*(x-y)+Exp(-SqDist(x,y))*Sin(SqDist(x,y))", ALIASES).expr
    names = [i.op for i in compile_sum(f, 1).pair.code]
    assert names.count("SqDist") == names.count("ExpScaled") == 1


# ---- planes -------------------------------------------------------------------------------------------------------


def unrolled(code):
    """(instruction, counter) in the order in which they run."""
    at = 0
    while at < len(code):
        if code[at].op == "Loop":
            for k in range(code[at].aux0):
                yield from ((i, k) for i in code[at + 1 : code[at].aux1])
            at = code[at].aux1
        else:
            yield code[at], 0
        at += 1


def check_planes(code, sizes, fixed, kept):
    """What stands in a plane when it is read is what was written there for the value that is meant."""
    kept = list(kept)
    planned, planes, highest = allocate(code, sizes, fixed, kept)
    holds = {planes[v] + c: (v, c, "loaded") for v in fixed for c in range(sizes[v])}
    wrote = {(v, c): (v, c, "loaded") for v in fixed for c in range(sizes[v])}

    def components(before, after, op, k):
        if before.value is None:
            return
        spread = range(sizes[before.value] - before.base) if op == "TensorDot" else [k * before.stride]
        for c in spread:
            assert 0 <= after.base + c < highest
            yield (before.value, before.base + c), after.base + c

    for serial, ((before, k), (after, _)) in enumerate(zip(unrolled(code), unrolled(planned), strict=True)):
        reads = before.args if before.op != "Accum" else (*before.args, before.out)
        used = set()
        for x, y in zip(reads, after.args if before.op != "Accum" else (*after.args, after.out), strict=True):
            for value, plane in components(x, y, before.op, k):
                assert holds[plane] == wrote[value], f"{before} reads {holds[plane]}"
                used.add(plane)
        if before.out is not None:
            for value, plane in components(before.out, after.out, before.op, k):
                assert before.op != "TensorDot" or plane not in used, "it reads on after it has begun to write"
                wrote[value] = holds[plane] = (*value, serial)
    for v in kept:
        for c in range(sizes[v]):
            assert holds[planes[v] + c] == wrote[v, c]
    return planned, planes, highest


@settings(max_examples=80, deadline=None)
@given(formulas(TAME_TENSOR), st.sampled_from([0, 1]))
def test_no_plane_is_overwritten_while_it_is_needed(expr, axis):
    with pytest.MonkeyPatch.context() as patch:
        for module in (tile, lowering):
            patch.setattr(module, "allocate", check_planes)
        tile._compile((expr,), axis, "sum", expr.dim)


def test_planes_are_used_again():
    f = parse("Exp(" * 30 + "x-y" + ")" * 30, ALIASES).expr
    assert compile_sum(f, 1).pair.planes == 1
    f = parse("+".join(f"Sin({k}*Exp(x-y))" for k in range(2, 30)), ALIASES).expr
    assert compile_sum(f, 1).pair.planes <= 6


@pytest.mark.parametrize("formula", ["Sin(x-y)*g", "SqDist(x,y)*Concat(b,y)", "MatVecMult(m,b)*Exp(-g*SqDist(x,y))"])
@pytest.mark.parametrize("axis", [0, 1])
def test_work_counted_without_a_program_is_that_of_the_program(formula, axis):
    expr = parse(formula, ALIASES).expr
    assert tile.work_of_sum(expr, axis) == cpu.prepare("sum", expr, None, False, axis).encoded.cost
