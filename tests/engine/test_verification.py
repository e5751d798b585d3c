"""The door of the engine refuses programs and work that reach outside their memory: the C code behind trusts them."""

import multiprocessing

import numpy as np
import pytest
from bound_reduction import BoundReduction
from processes import PATIENCE

from kernelops import _core
from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.program.compile import compile_exp, compile_sum
from kernelops.program.options import KernelOptions
from kernelops.program.verify import ARITY

CODE, PLANES, LOADS, EXPORTS = range(4)  # the parts of an encoded stage
OP, AUX0, AUX1, OUT, A, B = 0, 1, 2, 3, 6, 9  # columns of the code; an operand is place, base, stride
TILE, ROW, COL, PARAM = (_core.PLACES[p] for p in ("tile", "row", "col", "param"))

VECTOR = "Log(SqDist(x,y))*Sin(x-y)*g"
EXPONENTIAL = "Exp(-SqDist(x,y))*y"
GRADIENT = "Exp(-SqDist(x,y))*(x-y)"
WIDE = "Exp(-SqDist(TensorProd(x,TensorProd(x,Concat(x,x))),TensorProd(y,TensorProd(y,Concat(y,y)))))"  # of length 54
WEIGHTED = "Exp(-WeightedSqDist(Square(x),x,y))"
TENSOR = "TensorDot(TensorProd(x,y),x-y,[3,3],[3],[1],[0])"
EXPONENT = "SqDist(x,y)*g"


def encoded(formula, exponential=False):
    """The arguments of _core.Program: kind, n_out, constants, n_params, contractions, then the four stages."""
    expr = parse(formula, ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"]).expr
    p = compile_exp(expr, None, False, 1) if exponential else compile_sum(expr, 1)
    stages = [list(cpu._encode(s)) for s in (p.param, p.row, p.col, p.pair)]
    return [
        _core.KINDS[p.kind],
        p.n_out,
        p.constants,
        p.n_params,
        np.array(p.contractions, np.int32),
        *stages,
        np.array(p.centred, np.int32),
    ]


def find(arguments, op, stage=8):
    """The row of the first instruction of that name."""
    code = arguments[stage][CODE]
    return code[np.flatnonzero(code[:, OP] == _core.OPCODES[op])[0]]


def test_what_the_compiler_makes_passes():
    for formula in (VECTOR, TENSOR):
        assert _core.Program(*encoded(formula)).cost > 5


def test_operands_of_every_operation_are_counted():
    assert set(ARITY) | {"Loop", "End"} == set(_core.OPCODES)


def test_a_program_does_not_change_with_the_arrays_that_it_was_made_of():
    expr = parse(TENSOR, ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"]).expr
    arguments = encoded(TENSOR)
    prepared = cpu.Prepared(compile_sum(expr, 1), _core.Program(*arguments))
    x, y, g = np.arange(12.0).reshape(4, 3), np.arange(6.0).reshape(2, 3), np.ones(1)
    arrays = BoundReduction(expr, "Sum", 1, [x, y, g]).arguments
    want = cpu.run(prepared, arrays, 1, None, KernelOptions("float64")).sums
    arguments[4][...] = 1 << 20
    for stage in arguments[5:9]:
        for part in (CODE, LOADS, EXPORTS):
            stage[part][...] = 1 << 20
    np.testing.assert_array_equal(cpu.run(prepared, arrays, 1, None, KernelOptions("float64")).sums, want)


def test_a_program_is_verified_or_is_not_there():
    with pytest.raises(TypeError):
        _core.Program.__new__(_core.Program)
    arguments = encoded(VECTOR)
    program = _core.Program(*arguments)
    before = program.kind, program.n_out, program.n_params, program.cost
    program.__init__(17, -1, (), -1, *arguments[4:])  # initialising again changes nothing
    assert (program.kind, program.n_out, program.n_params, program.cost) == before


CORRUPTIONS = [
    ("SqDist", OUT, 0, "operand 0 .* in None"),
    ("SqDist", OUT, ROW, "operand 0 .* in row"),
    ("SqDist", OUT + 1, 99, "operand 0 .* reaches 99"),
    ("SqDist", OUT + 1, -1, "operand 0 .* reaches -1"),
    ("SqDist", A, COL, "operand 1 .* in col"),
    ("SqDist", A, 0, "operand 1 .* in None"),
    ("SqDist", A, 77, "operand 1 .* in None"),
    ("SqDist", B, PARAM, "operand 2 .* in param"),
    ("SqDist", AUX0, 4, "operand 1 .* reaches 3 of 3 in row"),
    ("Log", A, 0, "operand 1 .* in None"),
    ("Log", OUT, COL, "operand 0 .* in col"),
    ("Log", OP, 10_000, "no operation has the number 10000"),
    ("Log", OP, -1, "no operation has the number -1"),
    ("Subtract", B + 1, 1, "operand 2 .* reaches 3 of 3 in col"),
    ("Subtract", B + 2, 2, "operand 2 .* reaches 4 of 3 in col"),
    ("Subtract", B + 2, -1, "operand 2"),
    ("Subtract", OP, _core.OPCODES["Clamp"], "operand 3 .* in None"),
    ("Loop", AUX0, 4, "reaches 3 of 3|component 0\\+3 of 3"),
    ("Loop", AUX0, 0, "the loop at .* is not closed"),
    ("Loop", AUX1, 0, "the loop at .* is not closed"),
    ("Loop", AUX1, 10**6, "the loop at .* is not closed"),
    ("Loop", OP, _core.OPCODES["End"], "End at .* closes no loop"),
    ("End", OP, _core.OPCODES["Loop"], "is not closed"),
    ("OutDot", AUX0, 1, "result component 1\\+2 of 3"),
    ("OutDot", AUX0, -1, "result component -1"),
    ("OutDot", A, 0, "operand 1 .* in None"),
]


@pytest.mark.parametrize(("op", "column", "value", "message"), CORRUPTIONS)
def test_a_wrong_instruction(op, column, value, message):
    arguments = encoded(VECTOR)
    find(arguments, op)[column] = value
    with pytest.raises(ValueError, match=f"tile program: .*({message})"):
        _core.Program(*arguments)


FAT_CORRUPTIONS = [
    (EXPONENTIAL, "ExpScaled", B, COL, "operand 2 .* in col"),
    (EXPONENTIAL, "ExpScaled", B, 0, "operand 2 .* in None"),
    (EXPONENTIAL, "ExpScaled", B + 1, 9, "operand 2 .* reaches 9"),
    (EXPONENTIAL, "OutDot", AUX1, 4, "operand 2 .* reaches 3 of 3 in col"),
    (EXPONENTIAL, "OutDot", AUX0, 1, "result component 1\\+2 of 3"),
    (EXPONENTIAL, "OutDot", AUX1, 0, "0 results at once"),
    (EXPONENTIAL, "OutDot", AUX1, -3, "-3 results at once"),
    (EXPONENTIAL, "OutDot", B, ROW, "operand 2 .* in row"),
    (EXPONENTIAL, "OutDot", B + 1, 1, "operand 2 .* reaches 3 of 3 in col"),
    (GRADIENT, "OutDiff", A, COL, "operand 1 .* in col"),
    (GRADIENT, "OutDiff", B, COL, "operand 2 .* in col"),
    (GRADIENT, "OutDiff", B + 3, ROW, "operand 3 .* in row"),
    (GRADIENT, "OutDiff", B + 4, 1, "operand 3 .* reaches 3 of 3 in col"),
    (GRADIENT, "OutDiff", AUX1, 4, "operand 2 .* reaches 3 of 3 in row"),
    (GRADIENT, "OutDiff", AUX0, 1, "result component 1\\+2 of 3"),
    (WIDE, "WideSqDist", A, COL, "operand 1 .* in col"),
    (WIDE, "WideSqDist", B, ROW, "operand 2 .* in row"),
    (WIDE, "WideSqDist", B + 3, COL, "operand 3 .* in col"),
    (WIDE, "WideSqDist", A + 1, 1, "vectors that are not shifted"),
    (WIDE, "WideSqDist", AUX0, 55, "vectors that are not shifted"),
    (WIDE, "WideSqDist", AUX1, 3, "vectors that are not shifted"),
    (WEIGHTED, "WeightedSqDist", B + 3, COL, "operand 3 .* in col"),
    (WEIGHTED, "WeightedSqDist", B + 4, 9, "operand 3 .* reaches"),
    (WEIGHTED, "WeightedSqDist", AUX0, 4, "operand 2 .* reaches 3 of 3 in col"),
]


@pytest.mark.parametrize(("formula", "op", "column", "value", "message"), FAT_CORRUPTIONS)
def test_a_wrong_fat_instruction(formula, op, column, value, message):
    arguments = encoded(formula)
    _core.Program(*arguments)
    find(arguments, op)[column] = value
    with pytest.raises(ValueError, match=f"tile program: .*({message})"):
        _core.Program(*arguments)


@pytest.mark.parametrize(
    ("place", "message"),
    [(TILE, "operand 2 .* in tile"), (COL, "operand 2 .* in col"), (77, "operand 2 .* in None"), (-1, "in None")],
)
def test_a_wrong_factor_of_an_exponent(place, message):
    """It may be missing, but not in a place that there is not."""
    arguments = encoded(EXPONENT, exponential=True)
    operand = find(arguments, "OutExp")[B : B + 3]
    for right in ((PARAM, 0, 0), (0, 10**6, 0)):
        operand[:] = right
        assert _core.Program(*arguments).cost > 1
    operand[:] = place, 10**6, 0
    with pytest.raises(ValueError, match=f"tile program: .*({message})"):
        _core.Program(*arguments)


@pytest.mark.parametrize(
    "centred",
    [
        (),
        [(0, 0, 54, 54, 53)],
        [(0, 0, 54, 54, 0)],
        [(0, 0, 53, 54, 54)],
        [(0, 0, 54, 55, 54)],
        [(1, 0, 54, 54, 54)],
        [(0, -1, 54, 54, 54)],
        [(0, 0, 54, 54, 54)] * 2,
    ],
)
def test_wrong_shifted_vectors(centred):
    arguments = encoded(WIDE)
    assert _core.Program(*arguments).cost > 1 and arguments[-1].tolist() == [[0, 0, 54, 54, 54]]
    arguments[-1] = centred
    with pytest.raises(ValueError, match="tile program: .*(shifted)"):
        _core.Program(*arguments)


@pytest.mark.parametrize(
    ("op", "operand"), [("Sin", B), ("Sin", B + 3), ("Subtract", B + 3), ("SqDist", B + 3), ("OutDot", B + 3)]
)
def test_operands_that_an_instruction_does_not_have(op, operand):
    """They would count where rows are taken together: columns are read from where there are fewer."""
    arguments = encoded(VECTOR)
    find(arguments, op)[operand] = TILE
    with pytest.raises(ValueError, match="tile program: instruction .* has more than . operands"):
        _core.Program(*arguments)


@pytest.mark.parametrize("stage", [5, 6, 7])
@pytest.mark.parametrize(
    "op", ["OutSum", "OutDot", "OutDiff", "OutExp", "OutBest", "SqDist", "Dot", "L1Dist", "WeightedSqDist"]
)
def test_what_only_pairs_can_do(op, stage):
    arguments = encoded("Exp(g)*Exp(x)*Exp(y)")
    row = find(arguments, "Exp", stage)
    row[[OP, AUX0]] = _core.OPCODES[op], 0
    if op in ("OutSum", "OutDot", "OutDiff", "OutBest"):
        row[OUT : OUT + 3] = 0
    else:
        row[AUX0] = 1
    with pytest.raises(ValueError, match="result component|results at once|in (tile|param|None)"):
        _core.Program(*arguments)


@pytest.mark.parametrize("value", [-1, 50, 2**30, -(2**31)])
def test_a_wrong_table_of_contractions(value):
    """Whichever of its numbers: counts, sizes, strides."""
    for at in range(len(encoded(TENSOR)[4])):
        arguments = encoded(TENSOR)
        arguments[4][at] = value
        with pytest.raises(ValueError, match="tile program: (the contraction|no contraction|operand)"):
            _core.Program(*arguments)


def test_an_axis_of_size_0():
    arguments = encoded(TENSOR)
    arguments[4][2] = 0
    with pytest.raises(ValueError, match="has an axis of 0"):
        _core.Program(*arguments)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 17), (1, 0), (1, 2), (2, (1.0, 2.0, 3.0, 4.0)), (3, 0), (3, 99)],
)
def test_wrong_sizes(place, value):
    arguments = encoded(VECTOR)
    arguments[place] = value
    with pytest.raises(ValueError, match="tile program"):
        _core.Program(*arguments)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (PLANES, -1),
        (PLANES, 0),
        (LOADS, [[0, 3, 1]]),
        (LOADS, [[-1, 3, 0]]),
        (LOADS, [[0, 0, 0]]),
        (EXPORTS, [3]),
        (EXPORTS, [-1]),
        (EXPORTS, []),
    ],
)
def test_a_wrong_row_stage(part, value):
    arguments = encoded(VECTOR)
    arguments[6][part] = value if part == PLANES else np.array(value, np.int32)
    with pytest.raises(ValueError, match="tile program"):
        _core.Program(*arguments)


# ---- many at random, and those that pass are run --------------------------------------------------------------------


def mutate(rng, arguments):
    """One or two numbers changed, to something near or to something wild."""
    for _ in range(rng.integers(1, 3)):
        stage = arguments[rng.integers(5, 9)]
        places = [stage[CODE], stage[LOADS], stage[EXPORTS], arguments[4], arguments[9], stage[CODE], stage[CODE]]
        target = places[rng.integers(len(places))].reshape(-1)
        if rng.integers(12) == 0:
            k = rng.integers(4)
            if k in (1, 3):
                arguments[k] = int(arguments[k] + rng.integers(-2, 3))
            else:
                stage[PLANES] = int(stage[PLANES] + rng.integers(-3, 4))
        elif target.size:
            at = rng.integers(target.size)
            wild = rng.choice([0, 1, 2, 3, 4, -1, 255, 256, 2**30, 2**31 - 1, -(2**31)])
            target[at] = (
                wild if rng.integers(2) else np.clip(int(target[at]) + rng.integers(-2, 3), -(2**31), 2**31 - 1)
            )


def is_quick(arguments):
    """Whether it runs in no time; a loop of a billion rounds is right, if slow."""
    code = np.concatenate([s[CODE] for s in arguments[5:9]])
    slow = np.isin(code[:, OP], [_core.OPCODES[name] for name in ("Loop", "SinXDivX", "SqDist", "Dot")])
    return not slow.any() or abs(code[slow, AUX0].astype(float)).max() < 300


def run_mutants(seed, rounds):
    rng = np.random.default_rng(seed)
    formulas = [
        VECTOR,
        EXPONENTIAL,
        GRADIENT,
        WEIGHTED,
        TENSOR,
        "Concat(x,Pow(y,2))*Extract(TensorProd(x-y,x),1,6)",
        "Clamp(x,y,g)*SqDist(x*g,y*g)",
        EXPONENT,
    ]
    x, y, g = rng.standard_normal((9, 3)), rng.standard_normal((270, 3)), np.ones(1)
    expr = parse("x*y*g", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"]).expr
    arrays = BoundReduction(expr, "Sum", 1, [x, y, g]).arguments
    refused = ran = 0
    for _ in range(rounds):
        formula = formulas[rng.integers(len(formulas))]
        arguments = encoded(formula, exponential=formula == EXPONENT)
        mutate(rng, arguments)
        try:
            program = _core.Program(*arguments)
        except ValueError:
            refused += 1
            continue
        if not is_quick(arguments):
            continue
        prepared = cpu.Prepared(compile_sum(expr, 1), program)
        try:
            cpu.run(prepared, arrays, 1, None, KernelOptions(str(rng.choice(["float32", "float64"]))))
            ran += 1
        except ValueError:  # a variable that is not among the arrays, or has fewer components
            refused += 1
    assert refused > rounds / 4 and ran > rounds / 50, (refused, ran)


def test_mutants_are_refused_or_harmless():
    """In another process, which is asked whether it came out alive."""
    child = multiprocessing.get_context("spawn").Process(target=run_mutants, args=(0, 3000))
    child.start()
    child.join(PATIENCE)
    child.kill()
    child.join()
    assert child.exitcode == 0


# ---- the arrays of a call -------------------------------------------------------------------------------------------


def reduce(**changes):
    prepared = cpu.prepare("sum", parse("x*y", ["x = Vi(3)", "y = Vj(3)"]).expr, None, False, 1)
    call = {
        "program": prepared.encoded,
        "arrays": (np.zeros((4, 3)), np.zeros((5, 3))),
        "batch": (),
        "M": 4,
        "N": 5,
        "tasks": [[0, 4, 0, 1]],
        "intervals": [[0, 5]],
        "float64": True,
    } | changes
    return _core.reduce(work=_core.Work(call.pop("tasks"), call.pop("intervals")), **call)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": [[0, 5, 0, 1]]}, "outside the rows"),
        ({"tasks": [[-1, 4, 0, 1]]}, "outside the rows"),
        ({"tasks": [[3, 2, 0, 1]]}, "outside the rows"),
        ({"tasks": [[0, 4, 0, 2]]}, "intervals that do not exist"),
        ({"tasks": [[0, 4, -1, 1]]}, "outside the rows"),
        ({"tasks": [[0, 4, 0]]}, "tasks .1, 3., intervals .1, 2."),
        ({"intervals": [[0, 6]]}, "outside the columns"),
        ({"intervals": [[-1, 5]]}, "outside the columns"),
        ({"M": -1}, "sizes"),
        ({"best": 0}, "sizes"),
        ({"batch": (2, -1)}, "sizes"),
        ({"isa": 7}, "isa = 7 is not usable"),
        ({"isa": -1}, "isa = -1 is not usable"),
        ({"arrays": (np.zeros((3, 3)), np.zeros((5, 3)))}, "argument 0: an array"),
        ({"arrays": (np.zeros((4, 3)), np.zeros((5, 2)))}, "argument 1: an array"),
        ({"arrays": (np.zeros((4, 3)), np.zeros(15))}, "argument 1: an array"),
        ({"arrays": (np.zeros((4, 3)),)}, "argument 1 is missing"),
        ({"arrays": (None, np.zeros((5, 3)))}, "argument 0 is missing"),
        ({"arrays": (np.zeros((4, 3), int), np.zeros((5, 3)))}, "argument 0: an array"),
        ({"arrays": (np.zeros((4, 3), "f2"), np.zeros((5, 3)))}, "argument 0: an array"),
        ({"arrays": (np.zeros((4, 3), "c16"), np.zeros((5, 3)))}, "argument 0: an array"),
        ({"arrays": (np.zeros((4, 3), np.dtype("f8").newbyteorder()), np.zeros((5, 3)))}, "argument 0: an array"),
        ({"arrays": (np.zeros((2, 4, 3)), np.zeros((5, 3)))}, "argument 0: 1 batch dimensions for"),
        ({"batch": (2,), "arrays": (np.zeros((3, 4, 3)), np.zeros((5, 3)))}, "argument 0: batch dimension 0 is 3"),
    ],
)
def test_work_that_does_not_fit(changes, message):
    assert reduce()[0].shape == (4, 3)
    with pytest.raises(ValueError, match=message):
        reduce(**changes)


def test_nothing_where_something_is_needed():
    program = cpu.prepare("sum", parse("x*y", ["x = Vi(1)", "y = Vj(1)"]).expr, None, False, 1).encoded
    arrays = np.ones((4, 1)), np.ones((4, 1))
    with pytest.raises(ValueError, match="work is missing"):
        _core.reduce(program, arrays, (), 4, 4, None, float64=True)
    for nothing in ((None, arrays, ()), (program, None, ()), (program, arrays, None)):
        with pytest.raises(TypeError):
            _core.reduce(*nothing, 4, 4, _core.Work([[0, 4, 0, 1]], [[0, 4]]), float64=True)


def test_a_task_of_too_many_rows():
    n = _core.TASK_ROWS + 1
    with pytest.raises(ValueError, match="outside the rows"):
        reduce(arrays=(np.zeros((n, 3)), np.zeros((5, 3))), M=n, tasks=[[0, n, 0, 1]])


def test_work_does_not_change_with_the_arrays_that_it_was_made_of():
    tasks, intervals = np.array([[0, 4, 0, 1]]), np.array([[0, 5]])
    work = _core.Work(tasks, intervals)
    tasks[...] = intervals[...] = 1 << 40
    assert (work.rows, work.columns) == (4, 5)
    program = cpu.prepare("sum", parse("x*y", ["x = Vi(1)", "y = Vj(1)"]).expr, None, False, 1).encoded
    sums = _core.reduce(program, (np.ones((4, 1)), np.ones((5, 1))), (), 4, 5, work, float64=True)[0]
    np.testing.assert_array_equal(sums, np.full((4, 1), 5.0))


def test_unaligned_and_transposed_arrays_are_read_where_they_lie():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    shifted = np.frombuffer(b"?" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(4, 3)
    assert not shifted.flags.aligned and not shifted.flags.writeable
    want = reduce(arrays=(x, y))[0]
    np.testing.assert_array_equal(reduce(arrays=(shifted, np.asfortranarray(y)))[0], want)
    flipped = reduce(arrays=(x[::-1], y[:, ::-1].copy()[:, ::-1]))[0]
    np.testing.assert_array_equal(flipped, want[::-1])


def test_batch_elements_are_found_by_their_strides():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 1, 4, 3)), rng.standard_normal((3, 5, 3))[::-1]
    found = reduce(arrays=(x, y), batch=(2, 3))[0]
    for t, u in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[t, u], reduce(arrays=(x[t, 0], y[u]))[0])
    assert reduce(arrays=(x[:0], y), batch=(0, 3))[0].shape == (0, 3, 4, 3)


def test_unknown_instruction_set(monkeypatch):
    monkeypatch.setenv("KERNELOPS_ISA", "sse9")
    with pytest.raises(ValueError, match="KERNELOPS_ISA = 'sse9': wanted one of baseline"):
        cpu.instruction_set()
