"""Every table that is keyed by operation knows every operation, or says here which ones it does without.

An operation that is new has to be put into each table, or among those that the table leaves out on purpose.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from bound_reduction import BoundReduction
from language.interpreter import TRUTH

from kernelops import _core
from kernelops.formula import fold, grad, simplify
from kernelops.formula.expr import apply, variable
from kernelops.formula.ops import OPS
from kernelops.operators import definite
from kernelops.program import lowering, verify
from kernelops.program.cuda import emit
from kernelops.truncation import intervals

ELEMENTWISE = {name for name, op in OPS.items() if op.elementwise}
VECTORS = set(OPS) - ELEMENTWISE
WIRING = {"Sum", "Extract", "ExtractT", "Slice", "SliceT", "Concat"}  # become loops, and other places of operands
COMPARISONS = {"Equal", "NotEqual", "LessThan", "LessOrEqual"}
ONE_INSTRUCTION = {
    *("Minus", "Square", "Abs", "ReLU", "Sign", "Step", "Floor", "Add", "Subtract", "Mult", "Clamp", "IfElse")
}


def c_table():
    """The rows of ops.h from which the tile engine and the CUDA kernels take their values."""
    text = (Path(_core.__file__).parent / "_tile" / "ops.h").read_text(encoding="utf-8")
    values = text[: text.index("#define KERNELOPS_CONTROL")]
    return {name for name in re.findall(r"\bROW\((\w+),", values)}


# table -> the operations in it, and those that it does without
TABLES = {
    "derivatives": (grad.RULES, set()),
    "bounds over boxes": (intervals._RULES, set()),
    "truth of the tests": (TRUTH, set()),
    "values in C and CUDA": (c_table() - {"Copy"}, VECTORS),
    "instructions": (set(_core.OPCODES) & set(OPS), WIRING),
    "operands of instructions": (set(verify.ARITY) & set(OPS), WIRING),
    "lowering by more than one instruction": (lowering._STORE, ELEMENTWISE - {"Exp", "Square", "Abs"}),
    "values of constants": (fold.VALUES, VECTORS | {"SinXDivX", "Clamp"}),
    "simplifications": (
        simplify._RULES,
        COMPARISONS | {"Exp", "Log", "Rsqrt", "ReLU", "Step", "Floor", "SinXDivX", "Atan2", "Clamp"},
    ),
    "arithmetic of proofs": (
        definite.ARITHMETIC,
        COMPARISONS | {"Sin", "Cos", "ReLU", "Sign", "Step", "SinXDivX", "Clamp", "IfElse"}
        | {"ExtractT", "SliceT", "Concat", "TensorDot"},
    ),
    "proofs": (
        definite._RULES,
        COMPARISONS | {"Log", "Sin", "Tanh", "Atan2", "ReLU", "Sign", "Step", "Floor", "Clamp", "IfElse"},
    ),
    "lengths in float on a GPU": (emit.LENGTHS, VECTORS | COMPARISONS | ONE_INSTRUCTION),
    "lengths in double on a GPU": (set(emit.DOUBLE_LENGTHS) & set(OPS), VECTORS | COMPARISONS | ONE_INSTRUCTION),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_operation_is_in_the_table_or_left_out_on_purpose(table):
    held, without = map(set, TABLES[table])
    assert not held & without, "in the table, and among those that it does without"
    assert held | without == set(OPS)


def node(name, params):
    return apply(name, *(variable("Vj", k, 1) for k in range(OPS[name].arity)), params=params)


def value(name, params, operands, dtype="float64"):
    """An operation as the engine computes it, at one point."""
    data = [np.full((1, 1), a, dtype) for a in operands]
    return BoundReduction(node(name, params), "Max", 1, data, sizes=(1, None))()[0, 0]


def static(name):
    return {"Pow": [(-3,), (0,), (1,), (2,)], "SinXDivX": [(0,), (1,), (4,)]}.get(name, [()])


ROWS = [(name, params) for name in sorted(ELEMENTWISE) for params in static(name)]
NUMBERS = (-np.inf, -2.5, -1.0, 0.0, 0.5, 1.0, 3.0, np.inf)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "params"), ROWS)
def test_what_may_make_a_number_of_a_nan_says_so(name, params, dtype):
    """Others give NaN, unless the result is the same whatever stands in place of the NaN: 1 to any power is 1."""
    if OPS[name].masks_nan:
        return
    arity = OPS[name].arity
    for at in range(arity):
        for other in NUMBERS:
            operands = [other] * arity
            operands[at] = np.nan
            found = value(name, params, operands, dtype)
            if not np.isnan(found):
                for x in NUMBERS:
                    operands[at] = x
                    assert value(name, params, operands, dtype) == found, (at, other, x)


@pytest.mark.parametrize(("name", "params"), [row for row in ROWS if OPS[row[0]].arity == 1])
def test_parity(name, params):
    """Even and odd operations are; others are not, at some point."""
    parity = OPS[name].parity_of(params)
    right, left = (np.array([value(name, params, [s * x]) for x in (0.25, 0.5, 1.5, 2.0, 3.0)]) for s in (1, -1))
    assert (parity == "even") == np.array_equal(left, right)
    assert (parity == "odd") == np.array_equal(left, -right)


def test_parity_is_of_one_operand():
    assert {op.arity for op in OPS.values() if op.parity} == {1}


def test_slow_operations_are_those_that_a_gpu_takes_for_long():
    """Log is one that the CPU computes on whole vectors, as it does Exp."""
    assert set(verify.SLOW_OPERATIONS) == {n for n, op in OPS.items() if op.slow}
    assert {n for n, op in OPS.items() if op.slow} == {n for n, length in emit.LENGTHS.items() if length > 10} - {"Log"}
