"""Bad calls of LazyTensors: the call, the error and its text, in which "..." stands for anything.

A call takes ``d``: a half with arrays x (5, 2), y (7, 2) and v (7,), x_i and y_j made of them, D of length 2 and a
kernel K for the pairs of both, S for those of x alone, and the complex Z; d.o is the other half.
"""

from types import SimpleNamespace

import lazy_doors
import numpy as np
import scipy.sparse

from kernelops import ArgumentError, BackendError, DtypeError, FormulaError, KeywordError, RangesError, ShapeError

rng = np.random.default_rng(6)
x, y, v = rng.random((5, 2)), rng.random((7, 2)), rng.random(7)


def half_with_data(name, other=True):
    """A half, with what the calls need."""
    d = lazy_doors.half(name)
    d.x, d.y, d.v = (d.array(a.copy()) for a in (x, y, v))
    d.x_i, d.y_j = d.Vi(d.x), d.Vj(d.y)
    d.D = d.x_i - d.y_j
    d.K, d.S = (-(d.D**2).sum(-1)).exp(), (-((d.x_i - d.Vj(d.x)) ** 2).sum(-1)).exp()
    d.Z = d.LazyTensor(d.array(x[:, None] + 1j))
    d.cast = lambda a, dtype: a.astype(dtype) if name == "numpy" else a.to(getattr(d.library, dtype))
    d.o = half_with_data(d.other, False) if other else SimpleNamespace()
    return d


WANTED = "wanted a LazyTensor, a ..., a number or a list of numbers, got "
OTHER = "...kernelops...takes it, or ..."

MAKING = [
    (lambda d: d.LazyTensor(), DtypeError, WANTED + "NoneType"),
    (lambda d: d.LazyTensor("x"), DtypeError, WANTED + "str 'x'"),
    (lambda d: d.LazyTensor(True), DtypeError, WANTED + "bool True"),
    (lambda d: d.LazyTensor({1: 2}), DtypeError, WANTED + "dict"),
    (lambda d: d.LazyTensor(d.o.x), DtypeError, WANTED + OTHER),
    (lambda d: d.LazyTensor(d.o.x_i), DtypeError, WANTED + "<LazyTensor ...>: it belongs to kernelops..., this one to"),
    (lambda d: d.LazyTensor(d.x), ShapeError, "shape (5, 2) needs axis=0 (rows are i) or axis=1 (rows are j)"),
    (
        lambda d: d.LazyTensor(d.x[:, None] + d.y),
        ShapeError,
        "(..., M, 1, D), (..., 1, N, D) or (..., 1, 1, D), got (5, 7, 2)",
    ),
    (lambda d: d.LazyTensor(d.x, axis=3), ArgumentError, "axis: wanted 0 (rows are i), ... or None, got 3"),
    (lambda d: d.LazyTensor(d.x, axis=True), ArgumentError, "axis: wanted 0 ... got True"),
    (lambda d: d.LazyTensor(d.x[:, None], axis=0), ShapeError, "axis = 0 wants ... got (5, 1, 2), ...: leave axis out"),
    (lambda d: d.LazyTensor(d.x[:, :0], axis=0), ShapeError, "at least one component, got an array of shape (5, 0)"),
    (lambda d: d.Vi(d.v), ShapeError, "axis = 0 wants ... got (7,); .reshape(-1, 1) makes points of one component"),
    (lambda d: d.Pm(d.x[None]), ShapeError, "a parameter of shape (D,) or (batch, D), got an array of shape (1, 5, 2)"),
    (
        lambda d: d.Vi([1.0, 2.0]),
        ArgumentError,
        "axis = 0 goes with a ..., got list [1.0, 2.0]; ...Vi(position",
    ),
    (
        lambda d: d.Vi(3),
        ArgumentError,
        "axis = 0 goes with a ..., got int 3; ...made by Vi(position",
    ),
    (
        lambda d: d.Vi(d.x, 2),
        ArgumentError,
        "(position, length, category), ... got tuple of ...",
    ),
    (lambda d: d.Vi(-1, 2), ArgumentError, "whole numbers, with category 0 for i, ... got tuple (-1, 2, 0)"),
    (lambda d: d.Vi(0.5, 2), ArgumentError, "whole numbers, ... got tuple (0.5, 2, 0)"),
    (lambda d: d.Vi(True, 2), ArgumentError, "whole numbers, ... got tuple (True, 2, 0)"),
    (lambda d: d.LazyTensor((0, 2)), ArgumentError, "(position, length, category), ... got tuple (0, 2)"),
    (lambda d: d.LazyTensor((0, 2, 5)), ArgumentError, "2 for a parameter, got tuple (0, 2, 5)"),
    (lambda d: d.LazyTensor((0, 0, 1)), ArgumentError, "a symbolic variable is ... got tuple (0, 0, 1)"),
    (lambda d: d.LazyTensor([]), DtypeError, "a list stands for a parameter vector: wanted real numbers, got list []"),
    (lambda d: d.LazyTensor([1, True]), DtypeError, "wanted real numbers, got list [1, True]"),
    (lambda d: d.LazyTensor(["a"]), DtypeError, "wanted real numbers, got list ['a']"),
    (lambda d: d.LazyTensor([[1.0, 2.0]]), DtypeError, "wanted real numbers, got list of list"),
    (lambda d: d.LazyTensor([1j, "a"]), DtypeError, "wanted a list of complex numbers, got [1j, 'a']"),
    (lambda d: d.LazyTensor(10**400), ArgumentError, "a number that float64 can hold, got one beyond 1.8e308"),
    (lambda d: d.Vi(d.cast(d.x, "int64")), DtypeError, "float16, float32 or float64, got int64 of shape (5, 2)"),
    (lambda d: d.Vi(d.x > 0), DtypeError, "float16, float32 or float64, got bool of shape (5, 2)"),
    (lambda d: d.K * d.array(np.array(True)), DtypeError, "got bool of shape ()"),
    (lambda d: d.LazyTensor(d.x[:, :1], 0, is_complex=True), ArgumentError, "real and imaginary parts by turns, got"),
]

NUMPY_ALONE = [
    (lambda d: d.Vi(np.ma.array(x)), DtypeError, "wanted a plain array, got a masked one; .filled(value) makes"),
    (lambda d: d.K * np.ma.array(x[:, None]), DtypeError, "wanted a plain array, got a masked one"),
    (lambda d: d.Vi(np.matrix(x)), DtypeError, "wanted a plain array, got a numpy.matrix; np.asarray makes"),
    (lambda d: d.Vi(x.astype(np.longdouble)), DtypeError, "wanted an array of float16, float32 or float64, got float"),
    (lambda d: d.LazyTensor(np.array("abc")), DtypeError, "float16, float32 or float64, got a number of str"),
    (lambda d: d.LazyTensor(np.array([None, 1])), DtypeError, "float16, float32 or float64, got object of shape (2,)"),
    (lambda d: np.exp(d.K), TypeError, "does not support ufuncs"),
    (lambda d: np.asarray(d.K), DtypeError, "a LazyTensor is no array, ... .to_dense() makes an array of it"),
    (lambda d: np.dot(x, d.K), DtypeError, "a LazyTensor is no array"),
    (lambda d: scipy.sparse.eye(5, format="csr") @ d.K, DtypeError, "a LazyTensor is no array"),
]

TORCH_ALONE = [
    (lambda d: d.Vi(d.library.ones(5, 2).bfloat16()), DtypeError, "float16, float32 or float64, got bfloat16 of shape"),
    (lambda d: d.K * d.library.tensor(1.0).bfloat16(), DtypeError, "float16, float32 or float64, got a number of bfl"),
    (lambda d: d.Vi(d.x.to_sparse()), DtypeError, "a dense tensor, got one of layout torch.sparse_coo; .to_dense()"),
    (lambda d: d.LazyTensor(d.x[:, None].to_sparse()), DtypeError, "wanted a dense tensor, got one of layout"),
    (lambda d: d.library.exp(d.K), TypeError, "must be Tensor, not LazyTensor"),
    (lambda d: d.library.as_tensor(d.K), (TypeError, ValueError), "LazyTensor"),
]

OPERANDS = [
    (lambda d: d.x_i + d.Vi(d.y), ShapeError, "operands differ in i: 5 and 7"),
    (lambda d: d.y_j * d.Vj(d.x), ShapeError, "operands differ in j: 7 and 5"),
    (lambda d: d.K + d.K.T, ShapeError, "operands differ in i: 5 and 7"),
    (lambda d: d.x_i - d.Vi(d.x[:1]), ShapeError, "operands differ in i: 5 and 1"),
    (
        lambda d: d.Vi(d.x[None][[0] * 3]) + d.Vi(d.x[None][[0] * 4]),
        ShapeError,
        "operands differ in batch dimensions: (3,) and (4,) do not broadcast",
    ),
    (
        lambda d: d.x_i + d.cast(d.y[None], "float32"),
        DtypeError,
        "operands differ in dtype: float64 and float32",
    ),
    (lambda d: d.x_i + [1.0, 2.0, 3.0], FormulaError, "operands of lengths 2 and 3: wanted equal lengths, or a length"),
    (lambda d: d.x_i | [1.0, 2.0, 3.0], FormulaError, "operands of lengths 2 and 3"),
    (lambda d: d.x_i.matvecmult([1.0] * 3), FormulaError, "a matrix of 2 entries has no rows of length 3"),
    (lambda d: d.x_i.weightedsqnorm([1.0] * 3), FormulaError, "weights of length 3 for a vector of length 2: wanted"),
    (lambda d: d.K * "2", DtypeError, WANTED + "str '2'"),
    (lambda d: None + d.K, DtypeError, WANTED + "NoneType"),
    (lambda d: d.K - (1, 2), DtypeError, WANTED + "tuple (1, 2)"),
    (lambda d: True * d.K, DtypeError, WANTED + "bool True"),
    (lambda d: d.K / {}, DtypeError, WANTED + "dict"),
    (lambda d: d.K * d.o.v, DtypeError, WANTED + OTHER),
    (lambda d: d.o.v * d.K, DtypeError, WANTED + OTHER),
    (lambda d: d.K + d.o.K, DtypeError, "it belongs to kernelops..., this one to kernelops..."),
    (lambda d: d.Z * d.o.K, DtypeError, "it belongs to kernelops..., this one to kernelops..."),
    (lambda d: d.K * d.x, ShapeError, "an array of shape (5, 2) needs axis=0 (rows are i) or axis=1 (rows are j)"),
    (lambda d: d.K**None, DtypeError, WANTED + "NoneType"),
    (lambda d: d.K**True, DtypeError, WANTED + "bool True"),
    (lambda d: d.K**10**400, ArgumentError, "the exponent: wanted a number that float64 can hold"),
    (lambda d: d.K == None, DtypeError, WANTED + "NoneType"),  # noqa: E711
    (lambda d: d.K != "a", DtypeError, WANTED + "str 'a'"),
    (lambda d: d.K < d.Z, DtypeError, "got ComplexLazyTensor: this operation has no complex form"),
    (lambda d: d.Z < 1, DtypeError, "complex numbers have no order: compare .real, .imag or abs()"),
    (lambda d: d.K.sqdist(d.Z), DtypeError, "wanted real numbers, got ComplexLazyTensor"),
    (lambda d: d.Z + "a", DtypeError, WANTED + "str 'a'"),
    (
        lambda d: d.Vi(0, 2) + d.Vj(0, 3)[:2],
        ArgumentError,
        "symbolic variable 0 has lengths 2 and 3",
    ),
]

PYTHON = [
    (lambda d: bool(d.K), ArgumentError, "no truth value: comparisons are formulas, ... (x_i < y_j).sum(axis=1)"),
    (lambda d: not d.K, ArgumentError, "a LazyTensor has no truth value"),
    (lambda d: d.x_i < d.y_j < d.x_i, ArgumentError, "0 or 1 for each (i, j), which do not chain"),
    (lambda d: d.K in [d.x_i], ArgumentError, "a LazyTensor has no truth value"),
    (lambda d: bool(d.Z), ArgumentError, "a LazyTensor has no truth value"),
    (lambda d: hash(d.K), TypeError, "unhashable type: 'LazyTensor'"),
    (lambda d: hash(d.Z), TypeError, "unhashable type: 'ComplexLazyTensor'"),
    (lambda d: list(d.K), TypeError, "'LazyTensor' object is not iterable"),
    (lambda d: d.x_i in d.K, TypeError, "'LazyTensor' is not ..."),
    (lambda d: d.K(), TypeError, "'LazyTensor' object is not callable"),
    (lambda d: d.K.difference_matrix, AttributeError, "no attribute 'difference_matrix'"),
]

COMPONENTS = [
    (lambda d: d.x_i[2], ShapeError, "component 2 of a vector of length 2: wanted -2 to 1"),
    (lambda d: d.x_i[-3], ShapeError, "component -3 of a vector of length 2: wanted -2 to 1"),
    (lambda d: d.x_i[::2], ArgumentError, "a slice of components has no step, got slice(None, None, 2)"),
    (lambda d: d.x_i[::-1], ArgumentError, "a slice of components has no step"),
    (lambda d: d.x_i[::0], ArgumentError, "a slice of components has no step, got slice(None, None, 0)"),
    (lambda d: d.x_i[0.5:], ArgumentError, "a slice of components is of whole numbers, got slice(0.5"),
    (lambda d: d.x_i[1:1], ShapeError, "components 1:1 of a vector of length 2 are none"),
    (
        lambda d: d.x_i["a"],
        ArgumentError,
        "wanted a whole number, a slice or a LazyTensor for components of a LazyTensor, got 'a'",
    ),
    (lambda d: d.x_i[d.x_i], ShapeError, "x[k] looks up one component: wanted a k of length 1, got length 2"),
    (lambda d: d.x_i[True], ArgumentError, "wanted a whole number, a slice or ... got True"),
    (lambda d: d.x_i[1.0], ArgumentError, "wanted a whole number, a slice or ... got 1.0"),
    (lambda d: d.x_i[None], ArgumentError, "wanted a whole number, a slice or ... got None"),
    (lambda d: d.x_i[[0, 1]], ArgumentError, "wanted a whole number, a slice or ... got [0, 1]"),
    (lambda d: d.x_i[0, :, 1], ArgumentError, "only the components of a LazyTensor, its last dimension, can be taken"),
    (lambda d: d.x_i.elem(2), FormulaError, "asked of a vector of length 2"),
    (lambda d: d.x_i.elem(1.0), ArgumentError, "elem: k: wanted a whole number, got 1.0"),
    (lambda d: d.x_i.extract(1, 2), FormulaError, "asked of a vector of length 2"),
    (lambda d: d.Z[5], ShapeError, "component 5 of a vector of length 2"),
    (lambda d: d.Z.elem(True), ArgumentError, "elem: k: wanted a whole number, got True"),
]

METHODS = [
    (lambda d: d.x_i.sqdist(), KeywordError, "LazyTensor.sqdist: missing a required argument: 'other'"),
    (lambda d: d.x_i.sqdist(d.y_j, foo=1), KeywordError, "LazyTensor.sqdist: got an unexpected keyword argument 'foo'"),
    (lambda d: d.K.exp(foo=1), TypeError, "LazyTensor.exp() got an unexpected keyword argument 'foo'"),
    (lambda d: d.Z.exp(foo=1), TypeError, "ComplexLazyTensor.exp() got an unexpected keyword argument 'foo'"),
    (lambda d: d.K.clamp(), ArgumentError, "clamp: wanted min, max or both, got neither"),
    (lambda d: d.K.ifelse(1), KeywordError, "LazyTensor.ifelse: missing a required argument: 'second'"),
    (lambda d: d.x_i.norm(dim=1), ArgumentError, "norm: wanted dim = -1 or 2, the components, got 1"),
    (lambda d: d.LazyTensor.cat(d.x_i), ArgumentError, "concatenate: wanted a sequence of LazyTensors, got LazyTensor"),
    (lambda d: d.LazyTensor.cat((d.x_i, d.y_j), 0), ArgumentError, "wanted axis = -1 or 2, the components, got 0"),
    (lambda d: d.LazyTensor.cat((d.x_i, "a")), DtypeError, WANTED + "str 'a'"),
    (lambda d: type(d.Z).cat((d.Z, d.Z), 0), ArgumentError, "wanted axis = -1 or 2, the components, got 0"),
    (lambda d: type(d.Z).cat(()), ArgumentError, "concatenate: wanted a sequence of LazyTensors, got tuple"),
    (lambda d: d.Z ** "a", DtypeError, WANTED + "str 'a'"),
    (lambda d: d.Z**10**400, ArgumentError, "the exponent: wanted a number that float64 can hold"),
    (lambda d: d.x_i.keops_tensordot(d.y_j, (3,), 2, 0, 0), FormulaError, "the first operand has length 2, its dimen"),
    (
        lambda d: d.x_i.keops_tensordot(d.y_j, "a", 2, 0, 0),
        ArgumentError,
        "a dimension: wanted a whole number, got",
    ),
    (lambda d: d.x_i.keops_tensordot(d.y_j, None, 2, 0, 0), ArgumentError, "wanted a list of dimensions, got None"),
    (lambda d: d.x_i.keops_kron(d.y_j, (2,), (2, 1)), ShapeError, "keops_kron: 1 and 2 dimensions, wanted as many of"),
    (lambda d: d.K.grad(d.K, 1), ArgumentError, "a derivative is by a variable, ... got <LazyTensor shape (5, 7)"),
    (
        lambda d: d.K.grad(d.x, 1),
        ArgumentError,
        "a derivative is by a variable, ... or a symbolic one",
    ),
    (lambda d: d.K.grad(d.x_i, [1.0, 2.0]), ShapeError, "gradin: wanted a vector of length 1, got one of length 2"),
    (lambda d: d.K.diff(d.x_i, [1.0] * 3), ShapeError, "diffin: wanted a vector of length 2 or 1, got one of length 3"),
    (lambda d: d.K.divergence(d.x_i), FormulaError, "wants an F as long as v, 2, got length 1"),
    (lambda d: d.K.trace_operator(d.x_i), FormulaError, "wants an F that is linear in v"),
]

REDUCTIONS = [
    (lambda d: d.K.logsumexp(), KeywordError, "LogSumExp: wanted axis= (or dim=), the dimension that is reduced"),
    (lambda d: d.K.sum(axis=None), KeywordError, "Sum: wanted axis= (or dim=)"),
    (lambda d: d.K.sum(3), ArgumentError, "Sum: axis: wanted 0 or -3 (over i) or 1 or -2 (over j), got 3"),
    (lambda d: d.K.Kmin(2, axis=2), ArgumentError, "KMin: axis: wanted 0 or -3 (over i) or 1 or -2 (over j), got 2"),
    (lambda d: d.K.sum(dim=(0, 1)), ArgumentError, "Sum: axis: wanted one whole number, got (0, 1)"),
    (lambda d: d.K.sum("j"), ArgumentError, "Sum: axis: wanted one whole number, got 'j'"),
    (lambda d: d.K.sum(True), ArgumentError, "Sum: axis: wanted one whole number, got True"),
    (lambda d: d.K.sum(0, dim=1), KeywordError, "axis and dim are two names of one thing, got both, 0 and 1"),
    (lambda d: d.K.sum(1, foo=3), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.D.sum(-1, foo=3), KeywordError, "Sum over the components takes no foo"),
    (lambda d: d.K.sum(1, keepdim=True), KeywordError, "has no keyword 'keepdim'"),
    (lambda d: d.K.argKmin(0, axis=1), ArgumentError, "ArgKMin needs opt_arg = K, a whole number >= 1, got 0"),
    (lambda d: d.K.Kmin(-2, axis=1), ArgumentError, "KMin needs opt_arg = K, a whole number >= 1, got -2"),
    (lambda d: d.K.argKmin(2.0, axis=1), ArgumentError, "a whole number >= 1, got 2.0"),
    (lambda d: d.K.argKmin(True, axis=1), ArgumentError, "a whole number >= 1, got True"),
    (lambda d: d.K.argKmin(axis=1), TypeError, "missing 1 required positional argument: 'K'"),
    (lambda d: d.K.logsumexp(axis=1, weight="a"), DtypeError, WANTED + "str 'a'"),
    (lambda d: d.K.logsumexp(axis=1, weight=d.Vj(d.x)), ShapeError, "operands differ in j: 7 and 5"),
    (lambda d: d.K.sumsoftmaxweight(axis=1), KeywordError, "wanted weight ...got neither"),
    (lambda d: d.D.logsumexp(axis=1), FormulaError, "LogSumExp needs a formula of length 1, got one of length 2"),
    (lambda d: d.K.reduction("Foo", axis=1), ArgumentError, "reduction_op: wanted one of Sum, ... got 'Foo'"),
    (lambda d: d.K.reduction("Sum", axis=1, opt_arg=3), ArgumentError, "Sum takes none, got 3"),
    (lambda d: d.K.sum(1, backend="foo"), BackendError, "backend: wanted one of auto, CPU, ... got 'foo'"),
    (lambda d: d.K.sum(1, dtype_acc="foo"), ArgumentError, "dtype_acc: wanted one of auto, ... got 'foo'"),
    (lambda d: d.K.sum(1, sum_scheme="foo"), ArgumentError, "sum_scheme: wanted one of auto, ... got 'foo'"),
    (lambda d: d.K.sum(1, ranges=3), RangesError, "ranges: wanted a Ranges or six integer arrays ... got int"),
    (lambda d: d.K.sum(1, truncate=3), ArgumentError, "truncate: wanted a number from 0 to below 1, got 3"),
    (lambda d: d.K.sum(1, out=3), ArgumentError, "out: wanted ..., got int"),
    (lambda d: d.K.sum(1, out=d.x), ShapeError, "out: wanted shape (5, 1) of ...float64, got (5, 2)"),
    (lambda d: setattr(d.K, "ranges", 3), RangesError, "ranges: wanted a Ranges or six integer arrays ... got int"),
    (
        lambda d: setattr(d.K, "batchdims", "a"),
        ArgumentError,
        "batchdims: wanted a sequence of whole numbers, ... got 'a'",
    ),
    (lambda d: setattr(d.K, "batchdims", (-1,)), ArgumentError, "whole numbers, 0 and above, or None, got (-1,)"),
    (lambda d: setattr(d.K, "batchdims", (1.5,)), ArgumentError, "whole numbers, 0 and above, or None, got (1.5,)"),
    (lambda d: setattr(d.K, "nj", 5), AttributeError, "nj"),
    (lambda d: d.Vi(0, 2).sum(0)() * 2, ArgumentError, "wanted 1 arrays for ... positions [0], got 0"),
    (lambda d: d.Vi(0, 2).sum(0) * 2, TypeError, "unsupported operand type(s) for *"),
    (lambda d: d.Vi(0, 2).sum(0)(d.y, foo=1), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.Vi(0, 2).sum(0)(d.o.y), DtypeError, "x0 = Vi(2)..."),
    (lambda d: (d.Vi(0, 2) - d.x_i).sum(0)(d.y), ShapeError, "has 5 rows, x0 = Vi(2) has 7"),
    (lambda d: (d.x_i * 1e300 * d.cast(d.x[:, None], "float32")).sum(0), DtypeError, "operands differ in dtype"),
    (
        lambda d: (d.Vi(d.cast(d.x, "float32")) * 1e300).sum(0),
        ArgumentError,
        "a number that float32 can hold",
    ),
    (lambda d: (d.Vi(d.cast(d.x, "float32")) * [1e300]).sum(0), ArgumentError, "float32 can hold, got 1e+300"),
    (lambda d: d.Z.sum(-1, foo=3), KeywordError, "Sum over the components takes no foo"),
    (lambda d: d.Z.sum(-1, out=d.x), KeywordError, "Sum over the components takes no out"),
    (lambda d: d.Z.sum(axis=1, foo=3), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.Z.sum(axis=1, out=d.x), KeywordError, "out: a complex product is joined of two real ones"),
    (lambda d: d.Z.sum(axis=5), ArgumentError, "axis: wanted 0 or -3 (over i) or 1 or -2 (over j), got 5"),
]

MATRICES = [
    (lambda d: d.K @ d.K, ArgumentError, "K @ L of two LazyTensors ...: multiply twice, as in K @ (L @ v)"),
    (lambda d: d.K @ d.Z, ArgumentError, "K @ L of two LazyTensors"),
    (lambda d: d.K @ d.x, ShapeError, "K @ v: K has 7 columns, v has shape (5, 2)"),
    (lambda d: d.K @ d.y.T, ShapeError, "K @ v: K has 7 columns, v has shape (2, 7)"),
    (lambda d: d.K @ [1.0] * 7, DtypeError, "K @ v wants a ... for v, got list [1.0]"),
    (lambda d: d.K @ "v", DtypeError, "K @ v wants a ... for v, got str 'v'"),
    (lambda d: d.K @ None, DtypeError, "K @ v wants a ... for v, got NoneType"),
    (lambda d: d.K @ 3, DtypeError, "K @ v wants a ... for v, got int 3"),
    (lambda d: d.K @ d.array(np.array(2.0)), ShapeError, "(N,) or (..., N, E) for v, got a number: use K * v"),
    (lambda d: d.K @ d.o.v, DtypeError, "K @ v wants a ... for v, got " + OTHER),
    (lambda d: d.K @ d.cast(d.v, "float32"), DtypeError, "K @ v: K is float64, v is float32: wanted one dtype"),
    (lambda d: d.K @ d.cast(d.v, "int64"), DtypeError, "K @ v: K is float64, v is int64: wanted one dtype"),
    (lambda d: d.D @ d.v, ShapeError, "K @ v wants a K of shape (..., M, N), got (5, 7, 2): .sum(axis=...) reduces"),
    (lambda d: d.v @ d.K, ShapeError, "K @ v: K has 5 columns, v has shape (7,)"),
    (lambda d: [1.0] @ d.K, DtypeError, "K @ v wants a ... for v, got list [1.0]"),
    (lambda d: d.K.__matmul__(d.v, foo=1), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.K.solve(d.x), ShapeError, "wanted a square matrix, as many i as j, got 5 and 7"),
    (lambda d: d.S.solve(d.y), ShapeError, "other: wanted a right-hand side of 5 rows, got 7"),
    (lambda d: d.S.solve([1.0] * 5), DtypeError, "other: wanted a right-hand side, a ... or a LazyTensor, got list"),
    (lambda d: d.S.solve(None), DtypeError, "other: wanted a right-hand side, ... got NoneType"),
    (lambda d: d.S.solve(d.o.x), DtypeError, "other: wanted a right-hand side, ... got " + OTHER),
    (lambda d: d.S.solve(d.array(np.array(1.0))), ShapeError, "of shape (n,) or (..., n, k), got a number"),
    (lambda d: d.S.solve(d.x_i * 2), ArgumentError, "a right-hand side indexed by i or by j, got <LazyTensor"),
    (lambda d: d.S.solve(d.x, 0.1), ArgumentError, "var: wanted a variable of i or j, ... got float 0.1"),
    (lambda d: d.S.solve(d.x, alpha=-1), ArgumentError, "alpha must be finite and nonnegative, got -1"),
    (lambda d: d.S.solve(d.x, alpha="a"), DtypeError, "alpha: wanted a number, ..., got str"),
    (lambda d: d.S.solve(d.x, foo=1), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.S.solve(d.cast(d.x, "float32")), DtypeError, "b = Vj(2) is float32, ... one dtype"),
    (lambda d: (d.S * d.x_i[0]).solve(d.x, alpha=0.1), ArgumentError, "A must be symmetric for a solve"),
    (lambda d: d.S.logdet(0.1, foo=1), KeywordError, "has no keyword 'foo'"),
    (lambda d: d.D.operator(), ShapeError, "operator: wanted a K of shape (M, N), got (5, 7, 2)"),
    (lambda d: d.K.operator(foo=1), KeywordError, "has no keyword 'foo'"),
    (
        lambda d: (d.Vi(0, 1) * d.Vj(1, 1)).operator(),
        ArgumentError,
        "wanted arrays for all variables",
    ),
    (lambda d: d.K.rows([9]), ArgumentError, "rows: wanted indices from 0 to 4, got 9"),
    (lambda d: d.K.rows("a"), ArgumentError, "rows: wanted a list of whole numbers"),
    (lambda d: d.K.block([0], [True]), ArgumentError, "columns: wanted a list of whole numbers, got bool"),
    (lambda d: d.K.diagonal(), ShapeError, "diagonal: wanted as many i as j, got 5 and 7"),
    (lambda d: d.K.to_dense(max_bytes=3), ArgumentError, "an array of 280 bytes, max_bytes is 3; pass more if it fits"),
    (lambda d: d.K.to_dense(max_bytes="a"), ArgumentError, "max_bytes: wanted a number of bytes, got 'a'"),
    (lambda d: d.Z.to_dense(max_bytes="a"), ArgumentError, "max_bytes: wanted a number of bytes, got 'a'"),
    (lambda d: d.K.to_dense(foo=3), KeywordError, "has no keyword 'foo'"),
]

BOTH = {
    "making": MAKING,
    "operands": OPERANDS,
    "python": PYTHON,
    "components": COMPONENTS,
    "methods": METHODS,
    "reductions": REDUCTIONS,
    "matrices": MATRICES,
}
ALONE = {"numpy": NUMPY_ALONE, "torch": TORCH_ALONE}
