"""The torch door's solves with vectors on a device: every case of the table, its gradients too.

Where there is no GPU a tensor of the host passes for one: the engine of the CPU reads it and hands tensors back.
"""

import numpy as np
import pytest
import usual
from conformity import check_operator
from solve_cases import CASES, ITERATE
from torch_dense import all_near, assert_near, derivatives, torch

from kernelops import Ranges, SolveState
from kernelops.arrays.arguments import Arguments
from kernelops.arrays.device_array import DeviceArray
from kernelops.formula.parse import parse
from kernelops.operators import kernel_product
from kernelops.operators.shift import alpha_for_solve
from kernelops.operators.system import SolveSpec
from kernelops.reductions.reduction import Reduction
from kernelops.solvers.operator import as_system
from kernelops.torch import KernelSolve, system
from kernelops.torch.system import TensorSystem, device_of

ALIASES = usual.aliases(2, 1)


class Calls(list):
    """The dtypes of the blocks that went through a product, tensors alone."""

    def reduction(self, *how, **options):
        made = Reduction(*how, **options)

        def run(arguments, dtype):
            arrays = [a.owner.numpy() if isinstance(a, DeviceArray) else a for a in arguments.arrays]
            here = made(arguments._replace(arrays=tuple(arrays), library="host"), dtype)
            if arguments.library != "torch":
                return here
            self.append(dtype.name)
            return torch.from_numpy(here)

        return run


@pytest.fixture
def there(monkeypatch):
    calls = Calls()
    monkeypatch.setattr(kernel_product, "Reduction", calls.reduction)
    monkeypatch.setattr(system, "device_of", lambda arguments: torch.device("cpu"))
    return calls


@pytest.mark.parametrize("how", [ITERATE, {"precond": "jacobi"}, {"method": "direct"}], ids=["cg", "jacobi", "direct"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_solves(case, how, there):
    leaves = case.leaves()
    found = case.ours(*leaves, **how)
    assert_near(found, case.dense(*leaves))
    assert set(there) == {"float64"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_solves_of_float32(case, there):
    leaves = case.leaves(torch.float32)
    found = case.ours(*leaves, eps=1e-6)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, case.dense(*leaves), rtol=1e-3, atol=1e-3)
    assert set(there) == {"float32", "float64"}


@pytest.mark.parametrize("case", CASES[:2] + CASES[6:10], ids=lambda case: case.name)
def test_gradients(case, there):
    leaves = case.leaves()
    all_near(derivatives(case.ours(*leaves), leaves), derivatives(case.dense(*leaves), leaves))


def points(n, *batch, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(*batch, n, 2, generator=draw).to(dtype), torch.randn(n, 1, generator=draw).to(dtype)


def gauss(x, g):
    return (-g * ((x[:, None] - x) ** 2).sum(-1)).exp()


@pytest.mark.parametrize("precond", ["auto", None, "fsai", "pivoted_cholesky", "nystrom", "jacobi"])
@pytest.mark.parametrize("alpha", [0.05, torch.linspace(0.04, 0.1, 150)], ids=["number", "for each row"])
def test_what_a_solve_says(there, precond, alpha):
    x, b = points(150)
    how = dict(alpha=alpha, precond=precond, method="cg", return_solution=True)
    solver, seen = KernelSolve("Exp(-20*SqDist(x,y))*b", ALIASES, "b", axis=1), []
    a, found = solver(x, x, b, callback=seen.append, **how)
    assert found.converged and found.products.keys() == {"float32", "float64"} and set(there) == {"float32", "float64"}
    assert isinstance(found.x, np.ndarray) and found.x.shape == (150, 1) and len(seen) == found.iterations
    assert all(isinstance(s, np.ndarray) and s.shape == (150, 1) and s.dtype == np.float64 for s in seen)
    z = x.double()
    A = gauss(z, 20) + torch.diag_embed(torch.as_tensor(alpha, dtype=torch.float64).expand(150))
    r = torch.linalg.norm(b - A @ torch.from_numpy(found.x)) / torch.linalg.norm(b)
    assert r <= 1e-6 and float(found.residual[0]) == pytest.approx(float(r), rel=1e-3, abs=1e-10)
    torch.testing.assert_close(a, torch.from_numpy(found.x).float())


def test_ranges_with_orders(there):
    x, b = points(120, dtype=torch.float64)
    ranges = Ranges.from_radius(x, x, 0.3, points_per_cluster=6)
    assert ranges.plain is not ranges
    solver = KernelSolve("Exp(-200*SqDist(x,y))*b", ALIASES, "b", axis=1)
    found = solver(x, x, b, alpha=0.1, ranges=ranges, eps=1e-10)
    assert there
    mask = torch.from_numpy(ranges.contains(np.arange(120)[:, None], np.arange(120)))
    A = torch.where(mask, gauss(x, 200), 0.0) + 0.1 * torch.eye(120, dtype=torch.float64)
    torch.testing.assert_close(found, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-8)


def test_many_columns(there):
    x, _ = points(80, dtype=torch.float64)
    b = torch.eye(80, dtype=torch.float64)
    solver = KernelSolve("Exp(-20*SqDist(x,y))*b", [*ALIASES[:2], "b = Vj(80)"], "b", axis=1)
    found = solver(x, x, b, alpha=0.1, eps=1e-10, precond=None, method="block_cg")
    A = gauss(x, 20) + 0.1 * b
    torch.testing.assert_close(found, torch.linalg.inv(A), rtol=1e-7, atol=1e-7)


def test_states_and_determinants_share_a_plan(there):
    """What stands beside a solve has vectors of numpy: one preconditioner serves both."""
    x, b = points(100)
    solver, state = KernelSolve("Exp(-20*SqDist(x,y))*b", ALIASES, "b", axis=1), SolveState()
    how = dict(alpha=0.1, precond="fsai", method="cg", state=state)
    solver.logdet(x, x, n_probes=4, **how)
    assert not there
    first = solver(x, x, b, **how)
    again = solver(x, x, b, x0=first.double(), **how)
    assert there and state.builds == 1
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-4)
    mean, variance = solver.predict(x, x, b, at=x[:5], **how)
    assert mean.shape == (5, 1) and (variance > 0).all()


def arguments(*arrays, device=None):
    return Arguments(arrays, np.dtype("float32"), (), 3, 3, device)


def test_where_vectors_are(monkeypatch):
    tensor = torch.ones(3, 1)
    shown = DeviceArray(tensor.data_ptr(), (3, 1), None, np.dtype("float32"), 0, tensor, "torch")
    array = np.ones((3, 1), "float32")
    assert device_of(arguments(array)) is None
    assert device_of(arguments(array, None, shown, device=0)) == tensor.device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(arguments(array, device=0)) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(arguments(array, device=1)) == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert device_of(arguments(array, device=-1)) == torch.device("cuda:2")


def test_on_the_host_vectors_stay_numpy_s(monkeypatch):
    made = []
    monkeypatch.setattr(system, "TensorSystem", lambda *args: made.append(args))
    case = CASES[0]
    case.ours(*case.leaves())
    assert not made


@pytest.mark.parametrize("alpha", [0.1, np.linspace(0.1, 0.2, 30)], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_system_is_an_operator(dtype, alpha, there):
    x = np.random.default_rng(0).random((30, 2)).astype(dtype)
    parsed = parse(usual.GAUSS, ALIASES)
    spec = SolveSpec(parsed.expr, parsed.find("b"), parsed.variables, parsed.names)
    arguments = spec.bind([x, x, np.ones((30, 1), dtype)])
    A = TensorSystem(spec, arguments, alpha_for_solve(alpha, arguments), torch.device("cpu"))
    z = x.astype(np.float64)
    dense = np.exp(-((z[:, None] - z) ** 2).sum(-1)) + np.diag(np.broadcast_to(alpha, 30))
    check_operator(A, dense, np.broadcast_to(alpha, 30))
    assert as_system(A) is A and set(there) <= {"float32", "float64"} and there
