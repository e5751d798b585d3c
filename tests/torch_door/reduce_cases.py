"""The table of reductions that have derivatives, and the ways to lay out their arguments."""

from torch_dense import reduce, torch

from kernelops import Ranges
from kernelops.torch import Genred

ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "g = Pm(1)", "c = Pm(2)"]
SCALAR = "-g*SqDist(x,c*y)+Elem(b,0)"
VECTOR = "Exp(-g*SqDist(x,c*y))*(x-b)"
WEIGHT = "b+x*Elem(c,1)"
REDUCTIONS = {  # name -> reduction, formula, weight, K
    "Sum": ("Sum", VECTOR, None, None),
    "LogSumExp": ("LogSumExp", SCALAR, None, None),
    "LogSumExp of a weight": ("LogSumExp", SCALAR, "Exp(" + WEIGHT + ")", None),
    "SumSoftMaxWeight": ("SumSoftMaxWeight", SCALAR, WEIGHT, None),
    "Min": ("Min", VECTOR, None, None),
    "Max_ArgMax": ("Max_ArgMax", SCALAR, None, None),
    "KMin": ("KMin", VECTOR, None, 3),
    "KMin_ArgKMin of a scalar": ("KMin_ArgKMin", SCALAR, None, 2),
}
M, N = 6, 5
MASK = torch.ones(M, N, dtype=torch.bool)  # blocks of rows 0:2 and 2:6, of columns 0:4 and 4:5
MASK[:2, 4] = False


def ranges(mask):
    """Ranges of one row by one column that hold the same pairs as a mask."""
    rows, columns = ([[k, k + 1] for k in range(n)] for n in mask.shape)
    return Ranges.from_mask(rows, columns, mask.numpy())


def dense_formulas(x, y, b, g, c):
    """The three formulas at all pairs, (..., M, N, D)."""
    g, c = g[..., None, None, :], c[..., None, None, :]
    x, y, b = x[..., :, None, :], y[..., None, :, :], b[..., None, :, :]
    scalar = -g * ((x - c * y) ** 2).sum(-1, keepdim=True)
    weight = b + x * c[..., 1:]
    return {
        SCALAR: scalar + b[..., :1],
        VECTOR: scalar.exp() * (x - b),
        WEIGHT: weight,
        "Exp(" + WEIGHT + ")": weight.exp(),
    }


def leaf(*shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)


LAYOUTS = {  # name -> shapes of the leaves, and what is made of them
    "as they are": ([(M, 2), (N, 2), (N, 2), (1,), (2,)], lambda x, y, b, g, c: (x, y, b, g, c)),
    "the same twice": ([(N, 2), (1,), (2,)], lambda x, g, c: (x, x, x, g, c)),
    "expanded": ([(1, 2), (N, 1), (N, 2), (), (1,)], lambda x, y, b, g, c: (
        x.expand(M, 2), y.expand(N, 2), b, g, c.expand(2))),
    "transposed": ([(2, M), (2, N), (4, N), (1,), (2,)], lambda x, y, b, g, c: (
        x.T, y.T.flip(0), b.T[:, ::2], g, c.flip(0))),
    "batches": ([(2, 1, M, 2), (3, N, 2), (N, 2), (2, 1, 1), (3, 2)], lambda x, y, b, g, c: (x, y, b, g, c)),
}  # fmt: skip


def problem(name, axis, layout, masked):
    """Our function of the leaves, the dense one, and the leaves."""
    op, formula, weight, K = REDUCTIONS[name]
    shapes, laid_out = LAYOUTS[layout]
    leaves = [leaf(*shape, seed=k) for k, shape in enumerate(shapes)]
    mask = None if not masked else MASK[:N] if layout == "the same twice" else MASK
    options = {} if mask is None else {"ranges": ranges(mask)}
    genred = Genred(formula, ALIASES, op, axis, opt_arg=K, formula2=weight)

    def ours(*leaves):
        found = genred(*laid_out(*leaves), **options)
        return found[0] if isinstance(found, tuple) else found

    def dense(*leaves):
        formulas = dense_formulas(*laid_out(*(t.reshape(1) if t.ndim == 0 else t for t in leaves)))
        weights = None if weight is None else formulas[weight]
        return reduce(op, formulas[formula], axis, mask, weights, K or 1)

    return ours, dense, leaves
