"""Operators of torch.library: torch's own checks of them, shapes without data, export, tracing, copies of modules."""

import copy
import io
import json
import pickle

import numpy as np
import pytest
import usual
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch_dense import torch

from kernelops import Ranges, SolveState
from kernelops.errors import ArgumentError, BackendError, DtypeError, ShapeError
from kernelops.formula.ops import OPS
from kernelops.torch import Genred, KernelSolve
from kernelops.torch.spec_text import reduction_of, solve_of, text_of

ALIASES = usual.aliases(2, 1)
SUM = Genred(usual.GAUSS, ALIASES, axis=1)
MEAN = Genred("-SqDist(x,y)", ALIASES, "SumSoftMaxWeight", axis=0, formula2="x")
NEAREST = Genred("SqDist(x,y)", ALIASES[:2], "KMin_ArgKMin", axis=1, opt_arg=3)
SOLVER = KernelSolve(usual.GAUSS, ALIASES, "b", axis=1)


class Product(torch.nn.Module):
    """A product with weighted points, and a solve if `solver` is given."""

    def __init__(self, solver=None):
        super().__init__()
        self.genred, self.solver = SUM, solver
        self.weights = torch.nn.Parameter(torch.tensor([0.5, 2.0], dtype=torch.float64))

    def forward(self, x, b):
        found = self.genred(x * self.weights, x, b)
        return found if self.solver is None else self.solver(x, x, found, alpha=0.5)


def tensors(n=12, **how):
    """x (n, 2) and b (n, 1)."""
    draw = torch.Generator().manual_seed(n)
    x, b = (torch.rand(n, d, generator=draw, dtype=torch.float64) for d in (2, 1))
    return x.to(**how), b.to(**how)


def leaf(t):
    return t.detach().clone().requires_grad_()


OPERANDS = {
    "reduce": lambda x, b: ([x, x, b], [-1, -1], text_of(MEAN.spec)),
    "solve": lambda x, b: ([x, x, b], leaf(x[:, :1]), None, None, text_of(SOLVER.spec)),
    "polish": lambda x, b: (
        *([x, x, b], torch.tensor(0.1, dtype=torch.float64), leaf(b), leaf(b), b.detach(), torch.empty(0)),
        *(text_of(SOLVER.spec), text_of(SOLVER.spec), [True, True, False, False]),
    ),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_checks_of_torch(name):
    x, b = (t.requires_grad_() for t in tensors())
    found = torch.library.opcheck(getattr(torch.ops.kernelops, name), OPERANDS[name](x, b))
    assert len(found) == 4 and set(found.values()) == {"SUCCESS"}


def test_text_is_read_back_to_the_same_spec():
    names = (
        "expr",
        "weight",
        "op",
        "axis",
        "opt_arg",
        "variables",
        "names",
        "dtype",
        "dtype_acc",
        "sum_scheme",
        "parts",
    )
    special = Genred(
        "TensorDot(x,Exp(y),[2,3],[3],[1],[0]) * IfElse(p,-0.0,1/3)",
        ["x = Vi(6)", "y = Vj(3)", "p = Pm(1)", "unused = Vj(4)"],
        axis=1,
        dtype="float32",
        sum_scheme="kahan_scheme",
        use_double_acc=True,
    )
    for spec in (SUM.spec, MEAN.spec, NEAREST.spec, special.spec):
        text = text_of(spec)
        read = reduction_of(text)
        assert [getattr(read, name) for name in names] == [getattr(spec, name) for name in names]
        assert text_of(read) == text
    text = text_of(SOLVER.spec)
    assert text_of(solve_of(text)) == text and solve_of(text).form is SOLVER.spec.form


def test_text_executes_nothing():
    """A graph comes from a file: an operation that is none is refused."""
    read = json.loads(text_of(SUM.spec))
    read["nodes"][-1][0] = "__import__"
    assert "__import__" not in OPS
    with pytest.raises(KeyError):
        reduction_of(json.dumps(read))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_shapes_without_data(device):
    with FakeTensorMode(allow_non_fake_inputs=True) if device == "cpu" else torch.no_grad():
        x, b = tensors(device=device)
        x, b = x.to(torch.float32), b.to(torch.float32)
        assert SUM(x[:5], x, b).shape == (5, 1)
        assert MEAN(torch.stack([x, x]), x, b).shape == (2, 12, 2)
        values, indices = NEAREST(x[:4], x)
        assert values.shape == indices.shape == (4, 3) and indices.dtype == torch.int64
        a = SOLVER(x, x, b, alpha=np.full(12, 0.1))
        assert a.shape == (12, 1) and a.dtype == torch.float32 and a.device.type == device
        for call, kind, words in (
            (lambda: SUM(x[:, :1], x, b), ShapeError, "x = Vi(2) needs 2 columns"),
            (lambda: SUM(x, x, b[:3]), ShapeError, "b = Vj(1) has 3 rows"),
            (lambda: SUM(x.bfloat16(), x, b), DtypeError, "x = Vi(2) is bfloat16"),
            (lambda: SUM(x.long(), x, b), DtypeError, "x = Vi(2): wanted float16"),
            (lambda: SOLVER(x, x, b, alpha=torch.ones(5)), ArgumentError, "alpha: wanted shape"),
            (lambda: SUM(x, x, b, ranges=Ranges.band(12, 3)), BackendError, "ranges="),
            (lambda: SUM(x, x, b, truncate=0.1), BackendError, "truncate="),
            (lambda: SOLVER(x, x, b, state=SolveState()), BackendError, "state="),
            (lambda: SOLVER(x, x, b, return_solution=True), BackendError, "return_solution=True"),
            (lambda: SOLVER.logdet(x, x), BackendError, "logdet"),
            (lambda: SOLVER.predict(x, x, b, at=x), BackendError, "predict"),
        ):
            with pytest.raises(kind) as found:
                call()
            assert words in str(found.value)


def test_gradients_without_data():
    x, b = (t.requires_grad_() for t in tensors(device="meta"))
    slopes = torch.autograd.grad(SUM(x, x, b).sum() + SOLVER(x, x, b, alpha=0.1).sum(), (x, b))
    assert [(g.shape, g.device.type) for g in slopes] == [((12, 2), "meta"), ((12, 1), "meta")]


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs(strict):
    x, b = tensors()
    module = Product(SOLVER)
    rows = torch.export.Dim("rows")
    program = torch.export.export(module, (x, b), strict=strict, dynamic_shapes=({0: rows}, {0: rows}))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    x, b = tensors(17)
    for again in (program, torch.export.load(file)):
        assert torch.equal(again.module()(x, b), module(x, b))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_traced_modules():
    x, b = tensors()
    module = Product(SOLVER)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (x, b)), file)
    file.seek(0)
    traced = torch.jit.load(file)
    x, b = tensors(17)
    assert torch.equal(traced(x, b), module(x, b))
    found, want = (torch.autograd.grad(m(x, b).sum(), m.parameters())[0] for m in (traced, module))
    assert torch.equal(found, want)
    with pytest.raises(RuntimeError, match="Genred"):  # TorchScript has no words for it
        torch.jit.script(module)


def test_graphs_of_functions_and_modes():
    x, b = tensors()
    graph = make_fx(lambda x: SUM(x, x, b) * 2)(x)
    assert torch.equal(graph(x + 1), SUM(x + 1, x + 1, b) * 2)

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen = []
    with Names():
        found = SUM(x, x, b)
        moved = torch.func.jvp(lambda x: SUM(x, x, b), (x,), (x,))[1]
    assert torch.equal(found, SUM(x, x, b)) and seen[0] == "kernelops.reduce.default"
    assert torch.equal(moved, torch.func.jvp(lambda x: SUM(x, x, b), (x,), (x,))[1])


def test_copies_of_modules_compile():
    x, b = tensors()
    module = Product(SOLVER)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(x, b), module(x, b))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(copied, backend="aot_eager", fullgraph=True)(x, b), module(x, b))


def test_autocast_in_a_compiled_function():
    torch._dynamo.reset()
    x, b = (t.float() for t in tensors())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.compile(SUM, backend="aot_eager")(x, x, b)
        with pytest.raises(DtypeError, match=r"x = Vi\(2\) is bfloat16.*\.float\(\) makes float32 of it"):
            SUM(x @ torch.eye(2), x, b)
    assert found.dtype == torch.float32 and torch.equal(found, SUM(x, x, b))
