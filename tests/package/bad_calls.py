"""Bad calls of Genred: the call, the error and its text, in which "..." stands for anything.

A call takes a door, which is made by `door` below: its module, arrays of its kind, and a Genred and a KernelSolve made
from the Gaussian formula. BOTH are tried at both doors, NUMPY and TORCH at one.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import scipy.sparse
import usual

from kernelops import (
    ArgumentError,
    BackendError,
    DtypeError,
    FormulaError,
    KeywordError,
    Ranges,
    RangesError,
    ShapeError,
)

FORMULA, ALIASES = usual.SCALED_GAUSS, usual.aliases(3, 2, "g")
DISTANCES, PLAIN = "SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"]
SHAPES = {"x": (6, 3), "y": (5, 3), "b": (5, 2), "c": (6, 2), "g": (1,)}


def door(name):
    """What the calls need of a door; d.np is the same with numpy arrays."""
    module = importlib.import_module(f"kernelops.{name}")
    rng = np.random.default_rng(0)
    d = SimpleNamespace(module=module, **{k: rng.uniform(0.1, 1, shape) for k, shape in SHAPES.items()})
    d.cast, d.np = lambda a, dtype: a.astype(dtype), SimpleNamespace(**vars(d))
    if name == "torch":
        torch = importlib.import_module("torch")
        d.__dict__.update({k: torch.from_numpy(getattr(d, k)) for k in SHAPES})
        d.cast = lambda a, dtype: a.to(getattr(torch, dtype))
    d.args, d.square = (d.x, d.y, d.b, d.g), (d.x, d.x, d.c, d.g)
    d.genred = lambda **keywords: module.Genred(FORMULA, ALIASES, **({"axis": 1} | keywords))
    d.solver = lambda **keywords: module.KernelSolve(FORMULA, ALIASES, "b", **({"axis": 1} | keywords))
    d.G = d.genred()
    d.S = lambda **keywords: d.solver()(*d.square, **({"alpha": 0.1} | keywords))
    d.plain = lambda op="KMin", **keywords: module.Genred(DISTANCES, PLAIN, op, axis=1, **keywords)
    return d


def many(a, count):
    """count copies of an array of either kind, in a batch dimension."""
    return a[None][[0] * count]


COUNTS_AND_SHAPES = [
    (lambda d: d.G(d.x, d.y, d.b), ArgumentError, "wanted 4 arguments (x = Vi(3)..., g = Pm(1)), got 3"),
    (lambda d: d.G(*d.args, d.g), ArgumentError, "wanted 4 arguments (x = Vi(3)..., g = Pm(1)), got 5"),
    (lambda d: d.G(), ArgumentError, "wanted 4 arguments ... got 0"),
    (lambda d: d.G(d.x[:, :2], d.y, d.b, d.g), ShapeError, "x = Vi(3) needs 3 columns, ... got shape (6, 2)"),
    (lambda d: d.G(d.x.T, d.y, d.b, d.g), ShapeError, "x = Vi(3) needs 3 columns, ... got shape (3, 6)"),
    (lambda d: d.G(d.x, d.y, d.b.T, d.g), ShapeError, "b = Vj(2) needs 2 columns, ... got shape (2, 5)"),
    (lambda d: d.G(d.x, d.y, d.b[:4], d.g), ShapeError, "b = Vj(2) has 4 rows, y = Vj(3) has 5"),
    (
        lambda d: d.G(d.x[0], d.y, d.b, d.g),
        ShapeError,
        "x = Vi(3) needs an array of shape (..., rows, 3), got shape (3,)",
    ),
    (
        lambda d: d.module.Genred("x*y", ["x = Vi(1)", "y = Vj(1)"])(d.x[:, 0], d.y[:, :1]),
        ShapeError,
        "x = Vi(1) needs an array of shape (..., rows, 1), got shape (6,) (.reshape(-1, 1) makes one column of it)",
    ),
    (lambda d: d.G(d.x, d.y, d.b, d.b[0]), ShapeError, "g = Pm(1) needs 1 column, ... got shape (2,)"),
    (
        lambda d: d.G(many(d.x, 2), many(d.y, 3), d.b, d.g),
        ShapeError,
        "y = Vj(3) has batch dimensions (3,), which do not",
    ),
]

DTYPES = [
    (lambda d: d.G(d.cast(d.x, "float32"), *d.args[1:]), DtypeError, "y = Vj(3) is float64, x = Vi(3) is float32: all"),
    (lambda d: d.G(d.x, d.cast(d.y, "int64"), d.b, d.g), DtypeError, "y = Vj(3): wanted float16, ..., got int64"),
    (lambda d: d.G(d.x, d.y, d.cast(d.b, "complex128"), d.g), DtypeError, "b = Vj(2): wanted ..., got complex128"),
    (lambda d: d.G(d.x, d.cast(d.y, "bool"), d.b, d.g), DtypeError, "y = Vj(3): wanted ..., got bool"),
    (lambda d: d.G(*d.args[:3], 1j), DtypeError, "g = Pm(1)...: wanted a number..., got complex"),
    (lambda d: d.genred(dtype="float32")(*d.args), DtypeError, "x = Vi(3) is float64: dtype = float32 was asked for"),
    (lambda d: d.genred(dtype="int8"), DtypeError, "dtype: wanted float16 (half), float32 (float) ..., got 'int8'"),
]

NUMPY = [
    (lambda d: d.G(d.x.astype(object), *d.args[1:]), DtypeError, "x = Vi(3): wanted float16, ..., got object"),
    (lambda d: d.G(d.x.astype(str), *d.args[1:]), DtypeError, "x = Vi(3): wanted float16, float32 or float64, got <U"),
    (lambda d: d.G(None, *d.args[1:]), DtypeError, "x = Vi(3): wanted a numpy array ..., got NoneType"),
    (lambda d: d.G(d.x.tolist(), *d.args[1:]), DtypeError, "x = Vi(3): wanted a numpy array ..., got list"),
    (lambda d: d.G("x", *d.args[1:]), DtypeError, "x = Vi(3): wanted a numpy array ..., got str"),
    (lambda d: d.G(scipy.sparse.csr_array(d.x), *d.args[1:]), DtypeError, "x = Vi(3): wanted ..., got csr_array"),
    (lambda d: d.G(np.ma.array(d.x), *d.args[1:]), DtypeError, "x = Vi(3) is a masked array: wanted a plain one"),
    (lambda d: d.G(*d.args[:3], True), DtypeError, "g = Pm(1): wanted a number, a numpy array ..., got bool"),
    (lambda d: d.G(*d.args, out=np.broadcast_to(0.0, (6, 2))), ArgumentError, "out: wanted ..., got a read-only one"),
    (lambda d: d.G(*d.args, out=scipy.sparse.csr_array((6, 2))), ArgumentError, "out: wanted ndarray, got csr_array"),
]

TORCH = [
    (
        lambda d: d.G(*d.args[:3], d.cast(d.g[0], "complex64")),
        DtypeError,
        "g = Pm(1): wanted float16, ..., got complex64",
    ),
    (lambda d: d.G(*d.args[:3], d.g[0] > 0), DtypeError, "g = Pm(1): wanted float16, float32 or float64, got bool"),
    (lambda d: d.G(*d.args[:3], np.array(1j)), DtypeError, "g = Pm(1), argument 3: wanted a number or a torch tensor"),
    (lambda d: d.S(alpha=d.c[:, 0].to_sparse()), DtypeError, "alpha is a tensor of layout torch.sparse_coo: wanted"),
    (lambda d: d.G(*(d.cast(a, "bfloat16") for a in d.args)), DtypeError, "x = Vi(3) is bfloat16: wanted float16, "),
    (
        lambda d: d.G(d.np.x, *d.args[1:]),
        DtypeError,
        "x = Vi(3), argument 0: wanted a torch tensor, got ndarray; ...numpy",
    ),
    (
        lambda d: d.G(*d.args[:3], [0.5]),
        DtypeError,
        "g = Pm(1), argument 3: wanted a number or a torch tensor, got list",
    ),
    (lambda d: d.G(None, *d.args[1:]), DtypeError, "x = Vi(3), argument 0: wanted a torch tensor, got NoneType"),
    (
        lambda d: d.G(d.x.to("meta"), *d.args[1:]),
        BackendError,
        "y = Vj(3), argument 1 is on cpu, an earlier one on meta: all must be on one device",
    ),
    (lambda d: d.G(*d.args, out=d.np.c), ArgumentError, "out: wanted Tensor, got ndarray"),
    (
        lambda d: d.G(*d.args, out=d.c.clone().requires_grad_()),
        ArgumentError,
        "out: wanted ..., got a leaf that requires grad",
    ),
]

KEYWORDS = [
    (lambda d: d.genred(axis=2), ArgumentError, "axis: wanted 1 (reduce over j) or 0 (reduce over i), got 2"),
    (lambda d: d.genred(axis=np.arange(2)), ArgumentError, "axis: wanted 1 ..., got array([0, 1])"),
    (
        lambda d: d.genred(reduction_op="sum"),
        ArgumentError,
        "reduction_op: wanted one of ..., got 'sum'; did you mean Sum?",
    ),
    (lambda d: d.genred(reduction_op=["Sum"]), ArgumentError, "reduction_op: wanted one of ..., got ['Sum']"),
    (lambda d: d.genred(reduction_op="SoftMax"), ArgumentError, "SoftMax needs formula2, the weight"),
    (lambda d: d.genred(formula2="b"), ArgumentError, "formula2 is a weight for LogSumExp ...; Sum takes none"),
    (
        lambda d: d.genred(reduction_op="LogSumExp"),
        FormulaError,
        "LogSumExp needs a formula of length 1, got one of length 2",
    ),
    (lambda d: d.plain(), ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got None"),
    (lambda d: d.plain(opt_arg=-1), ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got -1"),
    (lambda d: d.plain(opt_arg=2.5), ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got 2.5"),
    (lambda d: d.plain(opt_arg=1 << 40), ArgumentError, "KMin: the largest opt_arg is 2147483647, got 1099511627776"),
    (lambda d: d.genred(opt_arg=3), ArgumentError, "opt_arg is the K of KMin, ...; Sum takes none, got 3"),
    (lambda d: d.genred(dtype_acc="f8"), ArgumentError, "dtype_acc: wanted one of auto, float16, ..., got 'f8'"),
    (lambda d: d.genred(dtype_acc=["float64"]), ArgumentError, "dtype_acc: wanted one of ..., got ['float64']"),
    (lambda d: d.genred(dtype_acc="float32")(*d.args), ArgumentError, "auto, float64 for float64 data, got 'float32'"),
    (lambda d: d.genred(sum_scheme="kahan"), ArgumentError, "sum_scheme: wanted one of auto, ..., got 'kahan'"),
    (lambda d: d.genred(use_double_acc="no"), ArgumentError, "use_double_acc: wanted True or False, got 'no'"),
    (lambda d: d.genred(use_double_acc=True, dtype_acc="float64"), KeywordError, "'float64' was given too"),
    (lambda d: d.genred(sum_shceme="auto"), KeywordError, "Genred has no keyword 'sum_shceme' ...mean sum_scheme?"),
    (lambda d: d.genred(truncate=0.1), KeywordError, "it goes to the call, Genred(...)(..., truncate=...)"),
    (lambda d: d.solver(alpha=0.1), KeywordError, "it goes to the call, KernelSolve(...)(..., alpha=...)"),
    (
        lambda d: d.solver(foo=1),
        KeywordError,
        "KernelSolve has no keyword 'foo' (ignored for old scripts are cuda_type,",
    ),
    (lambda d: d.G(*d.args, rnages=None), KeywordError, "Genred(...) has no keyword 'rnages'; did you mean ranges?"),
    (lambda d: d.S(tol=1), KeywordError, "KernelSolve(...) has no keyword 'tol'; did you mean"),
    (lambda d: d.G(*d.args, backend="gpu"), BackendError, "backend: wanted one of auto, CPU, ...; did you mean GPU?"),
    (lambda d: d.G(*d.args, backend=None), BackendError, "backend: wanted one of auto, CPU, ..., got None"),
    (lambda d: d.G(*d.args, device_id="0"), ArgumentError, "device_id: wanted the number of a GPU, or -1, got '0'"),
    (lambda d: d.G(*d.args, device_id=-2), ArgumentError, "device_id: wanted the number of a GPU, or -1, got -2"),
    (lambda d: d.G(*d.args, out=d.x), ShapeError, "out: wanted shape (6, 2) of ...float64, got (6, 3) of ...float64"),
    (lambda d: d.G(*d.args, out=d.cast(d.c, "float32")), ShapeError, "out: wanted ..., got (6, 2) of ...float32"),
    (lambda d: d.G(*d.args, out=[1]), ArgumentError, "out: wanted ..., got list"),
    (lambda d: d.plain("Min_ArgMin")(d.x, d.y, out=d.x), ArgumentError, "out is for reductions with one result"),
]

FORMULAS = [
    (
        lambda d: d.module.Genred("Exq(x)", ALIASES),
        FormulaError,
        "unknown operation Exq; did you mean Exp?\n  Exq(x)\n  ^",
    ),
    (lambda d: d.module.Genred(None, ALIASES), FormulaError, "a formula is a text, got NoneType: None"),
    (lambda d: d.module.Genred("x", "x = Vi(3)"), FormulaError, "aliases are a list of texts ..., got 'x = Vi(3)'"),
    (lambda d: d.module.Genred("x", ["x = Vi(3)"] * 2), FormulaError, "the name x is given twice\n  x = Vi(3)\n  ^"),
    (lambda d: d.module.Genred("x", ["x = Vi(0,3)", "z = Vj(0,3)"]), FormulaError, "position 0 is taken by x already"),
    (lambda d: d.module.Genred("x", ["x = Vi(-3)"]), FormulaError, "a position >= 0 and a length >= 1, got 0 and -3"),
    (lambda d: d.module.Genred("x", [1]), FormulaError, 'an alias is a text such as "x = Vi(3)", got int: 1'),
    (lambda d: generic(d, "a = Pm(2)"), ArgumentError, "the output 'a = Pm(2)' must be indexed by i or by j"),
    (lambda d: generic(d, "a = Vi(3)"), ArgumentError, "the output 'a = Vi(3)' has length 3, the result 2"),
    (lambda d: generic(d, "a"), FormulaError, "expected '='\n  a\n   ^"),
    (lambda d: generic(d, None), FormulaError, 'an alias is a text such as "x = Vi(3)", got NoneType: None'),
    (
        lambda d: generic(d, "a = Vi(2)", axis=1),
        KeywordError,
        "axis is settled by the function and its output 'a = Vi(2)'",
    ),
    (
        lambda d: d.module.generic_sum(FORMULA, "a = Vi(2)", ALIASES),
        FormulaError,
        "an alias is a text ..., got list: [",
    ),
    (lambda d: d.module.generic_argmin(DISTANCES, "a = Vi(2)", *PLAIN), ArgumentError, "has length 2, the result 1"),
    (
        lambda d: d.module.generic_argkmin(DISTANCES, "a = Vi(2)", *PLAIN, opt_arg=2),
        KeywordError,
        "opt_arg is settled by",
    ),
]


def generic(d, output, **keywords):
    return d.module.generic_sum(FORMULA, output, *ALIASES, **keywords)


def in_ranges(d, **changed):
    """A reduction over all pairs, given as six arrays, some of which are replaced."""
    names = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")
    six = dict(zip(names, Ranges.dense(6, 5).as_tuple(), strict=True)) | changed
    return d.G(*d.args, ranges=tuple(six.values()))


RANGES = [
    (
        lambda d: d.G(*d.args, ranges=Ranges.dense(7, 5)),
        RangesError,
        "ranges_i: [0, 7) is out of bounds, ... M = 6 rows",
    ),
    (
        lambda d: d.G(*d.args, ranges=Ranges.dense(6, 9)),
        RangesError,
        "ranges_j: [0, 9) is out of bounds, ... N = 5 rows",
    ),
    (
        lambda d: in_ranges(d, redranges_j=[[0, 4]]),
        RangesError,
        "the pair (i, j) = (0, 4) is in the half of ranges_j and",
    ),
    (
        lambda d: in_ranges(d, ranges_i=[[0, 4], [3, 6]], slices_i=[1, 1]),
        RangesError,
        "ranges_i: wanted disjoint blocks",
    ),
    (lambda d: in_ranges(d, slices_i=[2]), RangesError, "slices_i: wanted the last entry to be ..., 1, got 2"),
    (
        lambda d: in_ranges(d, slices_i=[1, 1]),
        RangesError,
        "slices_i: wanted shape (1,), one entry a block, got shape (2,)",
    ),
    (lambda d: in_ranges(d, ranges_i=[[6, 0]]), RangesError, "ranges_i: wanted start <= end, got [6, 0) in row 0"),
    (lambda d: in_ranges(d, ranges_i=[[-1, 6]]), RangesError, "ranges_i: wanted 0 <= start, got [-1, 6) in row 0"),
    (
        lambda d: in_ranges(d, ranges_i=np.zeros((1, 2))),
        RangesError,
        "ranges_i: wanted integers, got ndarray of float64",
    ),
    (lambda d: in_ranges(d, ranges_j=None), RangesError, "both halves are wanted, ..., got None for ranges_j"),
    (lambda d: d.G(*d.args, ranges=([[0, 6]], [1], [[0, 5]])), RangesError, "the six arrays ..., both halves, got 3"),
    (lambda d: d.G(*d.args, ranges=3), RangesError, "ranges: wanted a Ranges or six integer arrays ..., got int"),
]

BOTH = COUNTS_AND_SHAPES + DTYPES + KEYWORDS + FORMULAS + RANGES
