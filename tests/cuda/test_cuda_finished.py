"""Generated CUDA kernels on the emulator: results in their final form, and those of parts of the columns combined."""

import numpy as np
import pytest
import test_reductions as reductions
import usual
from cuda_emulator.emulator import missing
from emulated import Kernels

from kernelops.arrays.arguments import bind_arguments, compute_dtype
from kernelops.engines import cpu
from kernelops.formula.parse import parse
from kernelops.program.cuda.source import finishes, layout
from kernelops.program.options import KernelOptions
from kernelops.reductions.kinds import REDUCTIONS
from kernelops.reductions.pairs import evaluate_all_pairs
from kernelops.reductions.reduction import Reduction, prepare_reduction

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

FORMULAS = {
    "scalar": ("Square(x-y)*Elem(g,0)-y", None),
    "vector": ("Concat(x-y,Square(x*y))", None),
    "weight": ("-SqDist(x,y)", "Concat(y,x*y)"),
}
TYPES = ("float32", "float64")
ALIASES = ["x = Vi(1)", "y = Vj(1)", "g = Pm(2)"]


def formulas_of(op):
    kind = REDUCTIONS[op]
    if kind.accumulator == "exp":
        return ["scalar"] * (kind.weighted is not True) + ["weight"] * (kind.weighted is not False)
    return ["scalar", "vector"]


OPS = [(op, name) for op in REDUCTIONS for name in formulas_of(op)]


class Call:
    """A reduction of some data, done by the engine or by kernels."""

    def __init__(
        self, op, formula, axis=1, dtype="float64", out=None, *, K=3, scheme="auto", acc="auto", parts=1, how="dense"
    ):
        self.op, self.formula, self.axis, self.K = op, formula, axis, K
        self.dtype, self.out = np.dtype(dtype), np.dtype(out or dtype)
        self.scheme, self.acc, self.parts, self.how = scheme, acc, parts, how

    def __repr__(self):
        words = [self.op, self.formula, self.axis, self.dtype.name, self.out.name, self.parts, self.how]
        words += [self.scheme] * (self.scheme != "auto") + [self.acc] * (self.acc != "auto")
        return "-".join(map(str, words))

    @property
    def kind(self):
        return REDUCTIONS[self.op]

    def arguments(self):
        """The arrays: (arguments, ranges)."""
        batch = self.how in ("batches", "both")
        x, y, _ = reductions.points(37, 290, "float64", (2, 1) if batch else ())
        y = reductions.points(37, 290, "float64", (3,), 5)[1] if batch else y
        data = [a[..., :1].astype(self.dtype) for a in (x, y)] + [np.array([0.7, 2], self.dtype)]
        ranges = reductions.some_ranges(37, 290) if self.how in ("ranges", "both") else None
        return bind_arguments(parse("x+y+Elem(g,0)", ALIASES).variables, data), ranges

    def formulas(self):
        return [None if text is None else parse(text, ALIASES).expr for text in FORMULAS[self.formula]]

    def prepare(self):
        """The program, and the options of its kernels."""
        how = self.op, self.axis, self.best, self.acc, self.scheme, self.dtype, self.out
        return prepare_reduction(*self.formulas(), *how)[1:]

    @property
    def best(self):
        return self.K if self.kind.many else 1

    def engine(self):
        (expr, weight), (arguments, ranges) = self.formulas(), self.arguments()
        more = {"opt_arg": self.K} if self.kind.many else {}
        how = {"weight": weight, "ranges": ranges, "dtype_acc": self.acc, "sum_scheme": self.scheme}
        found = Reduction(expr, self.op, self.axis, **how, **more)(arguments, self.out)
        return found if isinstance(found, tuple) else (found,)

    def kernels(self, kernels, **how):
        (prepared, options), (arguments, ranges) = self.prepare(), self.arguments()
        how |= {"parts": self.parts, "data": self.dtype.name}
        return kernels.finished(prepared, arguments, self.axis, ranges, options, **how)

    def check(self, got):
        want = self.engine()
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            units = 64 if self.dtype != np.float16 else 4
            eps = max(np.finfo(t).eps for t in (self.out, compute_dtype(self.out)))
            # the logarithm of a sum that cancels is off by what cancelled over what is left: about exp(-result)
            with np.errstate(all="ignore"):
                size = np.maximum(10, np.exp(-b)) if self.op.startswith("LogSumExp") else 10 + 0 * b
            a, finite = a.reshape(b.shape), np.isfinite(b)
            np.testing.assert_array_equal(a[~finite], b[~finite])
            a, b, size = a[finite], b[finite], size[finite]
            assert (np.abs(a - b) <= units * eps * (np.abs(b) + size)).all()


CALLS = [Call(op, name, parts=parts, how=how) for op, name in OPS for parts, how in ((1, "dense"), (3, "both"))]
CALLS += [Call(op, name, 0, parts=2, how="ranges") for op, name in OPS]
CALLS += [Call(op, formulas_of(op)[0], 1, "float32", parts=parts) for op in REDUCTIONS for parts in (1, 4)]
SOME = [("Sum", "vector"), ("LogSumExp", "weight"), ("SumSoftMaxWeight", "weight"), ("KMin_ArgKMin", "scalar")]
CALLS += [
    Call(op, name, 1, *types, parts=parts, how=how)
    for op, name in SOME
    for types in (("float16", "float16"), ("float32", "float16"), ("float32", "float64"), ("float64", "float32"))
    for parts, how in ((1, "batches"), (5, "ranges"))
]
CALLS += [
    Call(op, name, 1, "float32", scheme=scheme, acc=acc, parts=parts)
    for op, name in SOME[:3]
    for scheme, acc in (("kahan_scheme", "auto"), ("auto", "float64"), ("kahan_scheme", "float64"))
    for parts in (1, 3)
]
CALLS += [Call("KMin_ArgKMin", "vector", K=40, parts=parts, how=how) for parts, how in ((1, "dense"), (4, "ranges"))]


class Entries(Call):
    """The values of all pairs; those outside the ranges are not written."""

    def __init__(self, formula, axis, *types, parts=1, how="dense"):
        super().__init__("Sum", formula, axis, *types, parts=parts, how=how)
        self.op = "entries"

    def engine(self):
        with np.errstate(all="ignore"):
            found = evaluate_all_pairs(parse(FORMULAS[self.formula][0], ALIASES).expr, *self.arguments(), self.out)
        return (found if self.axis == 1 else found.swapaxes(-2, -3),)

    def kernels(self, kernels, **how):
        arguments, ranges = self.arguments()
        found = cpu.prepare("entries", parse(FORMULAS[self.formula][0], ALIASES).expr, None, False, self.axis)
        options = KernelOptions(compute_dtype(self.out).name, finish="entries", out=self.out.name)
        return kernels.finished(found, arguments, self.axis, ranges, options, data=self.dtype.name, **how)


CALLS += [
    Entries(formula, axis, *types, how=how)
    for formula in ("scalar", "vector")
    for axis, types, how in (
        (1, ("float64", "float32"), "dense"),
        (0, ("float32", "float32"), "both"),
        (1, ("float16", "float16"), "ranges"),
    )
]


class Wide(Call):
    """Results of many components, which are computed in chunks."""

    def __init__(self, op, formula, weight, components, *types, D=3, parts=1, scheme="auto"):
        super().__init__(op, formula, 1, *types, parts=parts, scheme=scheme)
        self.weight, self.components, self.D = weight, components, D

    def __repr__(self):
        return f"{super().__repr__()}-{self.components}-{self.D}"

    def aliases(self):
        return [f"x = Vi({self.D})", f"y = Vj({self.D})", f"b = Vj({self.components})"]

    def formulas(self):
        return [None if t is None else parse(t, self.aliases()).expr for t in (self.formula, self.weight)]

    def arguments(self):
        rng = np.random.default_rng(self.components)
        shapes = (9, self.D), (150, self.D), (150, self.components)
        data = [(rng.standard_normal(shape) / self.D**0.5).astype(self.dtype) for shape in shapes]
        return bind_arguments(parse("Sum(x-y)*b", self.aliases()).variables, data), None


KERNEL, GRADIENT = usual.GAUSS, "Grad(Exp(-SqDist(x,y))*b,x,b)"
CALLS += [
    *(
        Wide("Sum", KERNEL, None, n, dtype, parts=parts)
        for n in (9, 16, 33, 100)
        for dtype in TYPES
        for parts in (1, 2)
    ),
    *(Wide("Sum", "SqNorm2(y)*SqDist(x,y)*(b*Elem(y,0))", None, n) for n in (16, 33)),
    *(Wide("Sum", KERNEL, None, 33, "float32", D=D) for D in (10, 64)),
    *(Wide("Sum", GRADIENT, None, 1, dtype, D=D) for D in (10, 33, 64) for dtype in TYPES),
    *(Wide("Sum", "Exp(x-y)", None, 1, "float64", D=40, scheme=scheme) for scheme in ("auto", "kahan_scheme")),
    Wide("Sum", "Concat(Exp(x-y),b*Norm2(x-y))", None, 20, "float64", D=20, parts=2),
    *(
        Wide("SumSoftMaxWeight", "-SqDist(x,y)", "b", n, dtype, parts=p)
        for n in (16, 33)
        for dtype in TYPES
        for p in (1, 3)
    ),
    *(Wide("LogSumExp", "-SqDist(x,y)", "Square(b)", 33, "float64", parts=p) for p in (1, 3)),
    *(Wide("LogSumExp", "-SqDist(x,y)", "b", 33, "float64", parts=p, scheme="kahan_scheme") for p in (1, 3)),
]


class Long(Wide):
    """Vectors too long for registers, or for shared memory."""

    def arguments(self):
        arguments, _ = super().arguments()
        arrays = [a if k == 0 else a[:40] for k, a in enumerate(arguments.arrays)]
        return arguments._replace(arrays=tuple(arrays), N=40), None


SPREAD = "Exp(-SqDist(x,3*y))*b"  # columns that are computed
CALLS += [
    *(Long("Sum", KERNEL, None, 1, dtype, D=D) for D in (100, 700) for dtype in TYPES),
    *(
        Long("Sum", KERNEL, None, 1, dtype, D=D)
        for D, dtype in ((2100, "float32"), (13000, "float32"), (6200, "float64"))
    ),
    Long("Sum", KERNEL, None, 1, "float16", D=13000),
    Long("Sum", "WeightedSqDist(b,x,y)*Elem(y,7)", None, 13000, "float32", D=13000),
    Long("Sum", SPREAD, None, 2, "float32", D=12300),
    Long("Sum", KERNEL, None, 13000, "float32", parts=2),
    Long("LogSumExp", "-SqDist(x,y)-Elem(x,5)", None, 1, "float64", D=6200),
    Long("Min_ArgMin", "SqDist(x,y)", None, 1, "float32", D=13000),
]


class Rectangles(Wide):
    """Contractions of long vectors, for which each thread has a rectangle of pairs."""

    def __init__(self, *args, how="dense", rows=9, **options):
        super().__init__(*args, **options)
        self.how, self.rows = how, rows

    def aliases(self):
        return [*super().aliases(), f"w = Pm({self.D})", "g = Pm(1)"]

    def arguments(self):
        rng = np.random.default_rng(self.components)
        lead = (2, 1), (3,)
        shapes = [(self.rows, self.D), (150, self.D), (150, self.components)]
        if self.how in ("batches", "both"):
            shapes = [(*lead[k > 0], *shape) for k, shape in enumerate(shapes)]
        data = [(rng.standard_normal(shape) / self.D**0.5).astype(self.dtype) for shape in shapes]
        data += [rng.uniform(0.5, 1.5, n).astype(self.dtype) for n in (self.D, 1)]
        ranges = reductions.some_ranges(self.rows, 150) if self.how in ("ranges", "both") else None
        return bind_arguments(parse("Sum(x-y)*b*Elem(w,0)*g", self.aliases()).variables, data), ranges

    def check(self, got):
        program = self.prepare()[0].program
        assert layout(program, KernelOptions(compute_dtype(self.out).name)).rectangle, "this is to go by rectangles"
        super().check(got)


class LongEntries(Rectangles):
    """The values of all pairs of long vectors."""

    def engine(self):
        with np.errstate(all="ignore"):
            return (evaluate_all_pairs(parse(self.formula, self.aliases()).expr, *self.arguments(), self.out),)

    def kernels(self, kernels, **how):
        arguments, ranges = self.arguments()
        options = KernelOptions(compute_dtype(self.out).name, finish="entries", out=self.out.name)
        return kernels.finished(self.prepared(), arguments, 1, ranges, options, data=self.dtype.name, **how)

    def prepared(self):
        return cpu.prepare("entries", parse(self.formula, self.aliases()).expr, None, False, 1)

    def check(self, got):
        assert layout(self.prepared().program, KernelOptions(compute_dtype(self.out).name)).rectangle
        Call.check(self, got)


SCALED, WEIGHTED = usual.SCALED_GAUSS, "Exp(-WeightedSqDist(w,x,y))*b"
CALLS += [
    *(Rectangles("Sum", SCALED, None, n, dtype, D=D) for n in (1, 3) for D in (64, 100) for dtype in TYPES),
    *(Rectangles("Sum", SCALED, None, 1, dtype, D=65, rows=140, parts=2, how="both") for dtype in TYPES),
    Rectangles("Sum", SCALED, None, 1, "float64", D=72, rows=300, how="ranges", scheme="kahan_scheme"),
    Rectangles("Sum", SCALED, None, 9, "float32", D=200, how="batches"),
    Rectangles("Sum", SCALED, None, 1, "float16", D=64),
    Rectangles("Sum", WEIGHTED, None, 2, "float32", D=96),
    Rectangles("Sum", "(x|y)**2*b*Norm2(b)", None, 2, "float64", D=80, rows=140),
    Rectangles("Sum", "Exp(-Sum(Abs(x-y)))*b", None, 1, "float64", D=80),
    *(
        Rectangles("SumSoftMaxWeight", "g*(x|y)", "b", n, "float32", D=200, parts=p)
        for n, p in ((2, 1), (2, 3), (5, 2))
    ),
    *(
        Rectangles("LogSumExp", "-SqDist(x,y)", None, 1, "float64", D=70, parts=p, how="ranges", rows=140)
        for p in (1, 3)
    ),
    Rectangles("Sum", "Exp(-SqDist(x,y)*Square(Elem(x,1)))*(b*Elem(x,0))", None, 2, "float32", D=80, rows=140),
    LongEntries("Sum", "Exp(-g*SqDist(x,y))", None, 1, "float32", D=64, rows=140),
    LongEntries("Sum", "Exp(-WeightedSqDist(w,x,y))*Elem(x,0)*b", None, 2, "float64", "float32", D=97, how="both"),
    Rectangles("LogSumExp", "10*SqDist(x,y)", None, 1, "float64", D=70, scheme="kahan_scheme"),
]


@pytest.fixture(scope="module")
def kernels():
    found = Kernels()
    found.noting = True
    for call in CALLS:
        call.kernels(found)
    found.build()
    return found


@pytest.mark.parametrize("call", CALLS, ids=repr)
def test_results_in_their_final_form(call, kernels):
    call.check(call.kernels(kernels))


def test_results_too_long_for_one_kernel():
    program = cpu.prepare("best", parse("x-y", ALIASES).expr, None, False, 1).program
    assert finishes(program, 32) and not finishes(program, 33)


ORDERED = [
    next(call for call in CALLS if isinstance(call, LongEntries)),
    next(call for call in CALLS if isinstance(call, Rectangles) and call.how == "both"),
    next(call for call in CALLS if isinstance(call, Rectangles) and call.op == "SumSoftMaxWeight" and call.parts == 3),
    next(call for call in CALLS if isinstance(call, Wide) and call.components == 33),
    next(call for call in CALLS if isinstance(call, Entries)),
]


@pytest.mark.parametrize("call", ORDERED, ids=repr)
def test_the_order_of_threads_changes_no_bit(call, kernels):
    found = [call.kernels(kernels, order=order) for order in ("forward", "reverse", "random")]
    np.testing.assert_equal(found[1:], found[:1] * 2)


def test_nothing_is_read_outside():
    """Under the address sanitizer, with rows and columns that fill no block and no tile."""
    if missing(sanitize=True):
        pytest.skip(missing(sanitize=True))
    found = Kernels()
    found.noting = True
    for call in ORDERED:
        call.kernels(found)
    found.build(sanitize=True)
    for call in ORDERED:
        call.check(call.kernels(found))
