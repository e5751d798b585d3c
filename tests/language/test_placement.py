"""What regrouping makes of products: how few instructions are left for the pairs."""

import numpy as np
import pytest
import usual

from kernelops.formula.parse import parse
from kernelops.numpy import Genred
from kernelops.program.compile import compile_sum

ALIASES = usual.aliases(3, 2, "g")


def pair_code(formula, axis=1):
    return compile_sum(parse(formula, ALIASES).expr, axis).pair.code


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "formula",
    ["Exp(-Sum(g*Square(x-y)))*b", "Exp(-Sum(Square(x-y)*SumT(g,3)*g))*b", "Exp(-Sum(Square(x-y)/g))*b"],
)
def test_a_weight_of_length_1_leaves_the_distance_to_one_instruction(formula, axis):
    assert pair_code(formula, axis)[0].op == "SqDist"
    assert [i.op for i in pair_code(formula, axis)].count("Accum") == 0


def test_a_quotient_divides_once_for_each_pair():
    code = pair_code("b/(1+SqDist(x,y))")
    names = [i.op for i in code]
    assert "Divide" not in names and names.count("Inv") == 1
    assert "Loop" not in names[: names.index("Inv")]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("formula", "truth"),
    [
        ("Sum(g*Square(x-y))*b", lambda x, y, b, g: (g * (x - y) ** 2).sum(-1, keepdims=True) * b),
        ("Sum((x-y)/g)*b", lambda x, y, b, g: ((x - y) / g).sum(-1, keepdims=True) * b),
        ("b/(1+SqDist(x,y))", lambda x, y, b, g: b / (1 + ((x - y) ** 2).sum(-1, keepdims=True))),
        ("(x-y)/Sum(Square(x-y)/g)", lambda x, y, b, g: (x - y) / ((x - y) ** 2 / g).sum(-1, keepdims=True)),
        ("y*Sum(x*y*g*SumT(1,3))", lambda x, y, b, g: y * (x * y * g).sum(-1, keepdims=True)),
    ],
)
def test_the_value_is_kept(formula, truth, axis):
    rng = np.random.default_rng(0)
    x, y, b, g = (rng.standard_normal(shape) for shape in ((7, 3), (300, 3), (300, 2), (1,)))
    found = Genred(formula, ALIASES, axis=axis)(x, y, b, g)
    terms = truth(x[:, None], y, b, g)
    # a term has at most ten roundings, some of them of sums of three numbers that are no larger than 10 times the term
    # but for rare cancellation; a sum has at most 300 terms
    assert (abs(found - terms.sum(axis)) <= 400 * np.finfo(float).eps * abs(terms).sum(axis)).all()


def test_the_same_factors_in_another_order_are_one_product():
    names = [i.op for i in pair_code("Concat(Exp(x|y)*SqDist(x,y)*Sin(x|y)*b,Sin(x|y)*g*SqDist(x,y)*Exp(x|y)*(x-y))")]
    assert names.count("Mult") == 3, "two for the product, one for g"
