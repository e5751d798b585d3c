"""Random texts for the parser: a formula or a FormulaError, whatever they are, and after a bounded number of calls.

What is read must print, and be read back to the same node. Half the texts are formulas, as they are or with pieces
put in, cut out, repeated or shuffled; the others are made of tokens and of any characters.
"""

import random
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from campaigns.formulas import named, random_formula, seeds

from kernelops.engines import cpu
from kernelops.errors import FormulaError
from kernelops.formula.defined import DEFINED
from kernelops.formula.expr import text, topological
from kernelops.formula.ops import OPS
from kernelops.formula.parse import parse, parse_alias

USUAL = 3000  # texts
MOST_CALLS = 2_000_000  # of Python functions for one text: a formula of some hundred operations takes a tenth
PRINTED = 20_000  # operations of a text that is printed: what is shared is written again and again

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)", "A = Pm(9)"]
LEAVES = """x y b g A 1 2 0.5 3e-2 -1 1e999 Vi(0,3) Vj(1,3) Pm(3,1) Var(0,3,0) Vi(7,2) IntCst(2) RatCst(1,0) (x)
    99999999999999999999""".split()
SIGNS = "+ - * / | ** < <= > >= == != ,".split()
LISTS = "[3] [1] [] [0] [3,1] [1,3] [0,1] [9] [3,3] [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] 3".split()
NUMBERS = (0, 1, 2, 3, -1, 5, 9, 100, 2**31 - 1, -(2**31), 2**63, "1.5", "x")
NAMES = [*OPS, *DEFINED, "Grad", "Vi", "Vj", "Pm", "Var", "Vx", "Vy", "x", "y", "pi", "nope"]
JUNK = [
    *"\0\n\t\r ²٣−\ud800😀π\u200b\ufeff%@#'\"\\{}$`~;:_",
    *"e E 1e 1e+ 0x10 1_000 nan inf . .. 1. .5 1e308 1e-999 *** ! = // --".split(),
    *"[ ] [] [,] ( ) , + - | / 1000000000 2147483647 2147483648".split(),
    "9" * 400,
    " " * 3000,
    "(" * 250,
    "-" * 250,
]


@contextmanager
def at_most(calls):
    """Raise where more functions of Python are called: a bound that does not depend on the machine."""
    left = [calls]

    def count(frame, event, argument):
        if event == "call":
            left[0] -= 1
            if left[0] == 0:
                raise AssertionError(f"more than {calls} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)


def written(r, depth):
    """A formula as a person would write it, or nearly so."""
    if depth <= 0 or r.random() < 0.15:
        return r.choice(LEAVES)
    form = r.random()
    if form < 0.35:
        return written(r, depth - 1) + r.choice(SIGNS) + written(r, depth - 1)
    if form < 0.5:
        return r.choice(["({})", "-{}", "+{}", " {} "]).format(written(r, depth - 1))
    name = r.choice([*OPS, *DEFINED, "Grad"])
    if name == "Grad":
        return f"Grad({written(r, depth - 1)},{r.choice('xybgA')},{r.choice(['1', written(r, depth - 2)])})"
    row = OPS.get(name) or DEFINED[name]
    args = [written(r, depth - 1) for _ in range(row.arity)]
    args += [r.choice(LISTS) if name == "TensorDot" else str(r.choice(NUMBERS)) for _ in row.params]
    return f"{name}({','.join(args)})"


def spoilt(r, formula):
    """Some pieces put in, cut out, repeated or shuffled."""
    for _ in range(r.randint(1, 4)):
        at, to = sorted((r.randint(0, len(formula)), r.randint(0, len(formula))))
        formula = r.choice(
            [
                lambda f, a, b: f[:a] + r.choice(JUNK) + f[a:],
                lambda f, a, b: f[:a] + r.choice(NAMES) + f[a:],
                lambda f, a, b: f[:a] + f[a + r.randint(1, 3) :],
                lambda f, a, b: f[:a] + chr(r.choice([r.randrange(128), r.randrange(0x110000)])) + f[a:],
                lambda f, a, b: f[:a] + f[a:b] * r.randint(0, 3) + f[b:],
                lambda f, a, b: "".join(r.sample(f, len(f))),
            ]
        )(formula, at, to)
    return formula


def random_text(r, seed):
    form = r.random()
    if form < 0.3:
        return written(r, r.randint(1, 6))
    if form < 0.4:
        return str(random_formula(np.random.default_rng(seed), tame=False))
    if form < 0.8:
        return spoilt(r, written(r, r.randint(1, 6)))
    if form < 0.9:
        return "".join(r.choice(JUNK + NAMES) for _ in range(r.randint(0, 30)))
    return "".join(chr(r.randrange(r.choice([128, 256, 0x110000]))) for _ in range(r.randint(0, 60)))


def random_alias(r):
    name, sign = r.choice(["x", "y", "abc", "_", "x1", "Vi", "Var", ""]), r.choice([" = ", "=", "==", " ", "\n=\t"])
    kind = r.choice(["Vi", "Vj", "Pm", "Var", "Vx", "Vy", "Exp", ""])
    numbers = "3 0,3 0,3,1 9999,3 10000,3 1000000000,3 -1 0 1.0 1.5 1e9 1e10 2147483647 [1] x 1+1 3)(3".split()
    found = f"{name}{sign}{kind}({r.choice(numbers)})"
    return spoilt(r, found) if r.random() < 0.5 else found


def try_alias(r):
    try:
        with at_most(MOST_CALLS):
            parse_alias(random_alias(r), r.randint(0, 5))
    except FormulaError as error:
        assert str(error) and len(str(error)) < 1000


def try_formula(r, seed):
    aliases = list(ALIASES)
    if r.random() < 0.1:
        aliases[r.randrange(len(aliases))] = random_alias(r)
    formula = random_text(r, seed)
    try:
        with at_most(MOST_CALLS):
            found = parse(formula, aliases)
    except FormulaError as error:
        assert str(error) and len(str(error)) < 1000
        return "refused"
    sizes = {}
    for node in topological(found.expr):
        sizes[node] = 1 + sum(sizes[a] for a in node.args)
    if sizes[found.expr] < PRINTED:
        assert parse(text(found.expr)).expr is found.expr
        assert parse(text(found.expr, found.names), aliases).expr is found.expr
    if max(node.dim for node in sizes) <= 200 and len(sizes) < 200:
        with at_most(MOST_CALLS):
            cpu.prepare("sum", found.expr, None, False, r.randint(0, 1))
    return "read"


def test_any_text_is_a_formula_or_a_formula_error():
    found = []
    for seed in seeds(USUAL):
        r = random.Random(seed)
        with named(seed):
            if r.random() < 0.15:
                try_alias(r)
            else:
                found.append(try_formula(r, seed))
    if len(found) > 500:
        assert min(found.count("read"), found.count("refused")) > len(found) // 10, "both kinds are tried"


def test_a_failure_names_its_seed():
    with (
        pytest.raises(AssertionError, match=r"seed 7 \(KERNELOPS_FUZZ_FIRST=7 KERNELOPS_FUZZ_SEEDS=1\): KeyError: 'x'"),
        named(7),
    ):
        raise KeyError("x")
    with pytest.raises(AssertionError, match="more than 5 calls"), at_most(5):
        for _ in range(9):
            str(np.float64(1))
            written(random.Random(0), 0)
