"""Who is timed: a call without arguments for a problem, by each of four packages.

The dense ways are what a careful user of the package writes: distances by one matrix product, then in place wherever
the package allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from kernels import KINDS, K, Problem

Call = Callable[[], Any]


def genred(package: str, problem: Problem) -> Call:
    """kernelops and KeOps take the same texts."""
    if package == "kernelops":
        from kernelops.numpy import Genred
    else:
        from pykeops.numpy import Genred
    kind, arrays = KINDS[problem.kind], problem.arrays
    reduction = Genred(kind.formula, problem.aliases, kind.op, axis=1, opt_arg=kind.opt_arg)
    return lambda: reduction(*arrays, backend="CPU")


def dense_torch(problem: Problem, device: str = "cpu") -> Call:
    """Squared norms and a matrix product, then in place; torch.cdist is the same with a square root."""
    import torch

    x, y, b, e = (torch.from_numpy(problem.named[name]).to(device) for name in "xybe")

    def norms(a: Any) -> Any:
        return (a * a).sum(1)

    def minus_squares() -> Any:
        return torch.addmm(norms(y), x, y.T, beta=-1, alpha=2).sub_(norms(x)[:, None])

    def distances() -> Any:
        r = torch.cdist(x, y)
        return r.fill_diagonal_(0) if problem.same else r  # there the root makes much of what cancellation leaves

    def matern32() -> Any:
        r = distances()
        return r.neg().exp_().mul_(r.add_(1)) @ b

    def matern52() -> Any:
        r = distances()
        return r.neg().exp_().mul_(r.square().div_(3).add_(r).add_(1)) @ b

    def gradient() -> Any:
        at = x.detach().requires_grad_()
        exponents = torch.addmm(norms(y), at, y.T, beta=-1, alpha=2) - norms(at)[:, None]
        return torch.autograd.grad(exponents.exp() @ b, at, e)[0]

    return {
        "gaussian": lambda: minus_squares().exp_() @ b,
        "laplace": lambda: distances().neg_().exp_() @ b,
        "matern32": matern32,
        "matern52": matern52,
        "logsumexp": lambda: minus_squares().logsumexp(1, keepdim=True),
        "argkmin": lambda: minus_squares().topk(K).indices,
        "gradient": gradient,
    }[problem.kind]


def torch_on_one_thread(problem: Problem) -> Call:
    """The same without waking other threads, which a small problem does not pay for."""
    import torch

    call, threads = dense_torch(problem), torch.get_num_threads()

    def alone() -> Any:
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(threads)

    return alone


def scikit_learn(problem: Problem) -> Call:
    """Its kernels, its distances, its neighbours; of one set of points where x and y are one."""
    from scipy.special import logsumexp
    from sklearn.gaussian_process.kernels import Matern
    from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
    from sklearn.neighbors import NearestNeighbors

    x, b = problem.named["x"], problem.named["b"]
    y = None if problem.same else problem.named["y"]

    def matern(nu: float) -> Call:
        kernel = Matern(length_scale=max(2 * nu, 1) ** 0.5, nu=nu)  # then the distances stand in it as they are
        return lambda: kernel(x, y) @ b

    def neighbours() -> Any:
        search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x if y is None else y)
        return search.kneighbors(x, return_distance=False)

    return {
        "gaussian": lambda: rbf_kernel(x, y, gamma=1.0) @ b,
        "laplace": matern(0.5),
        "matern32": matern(1.5),
        "matern52": matern(2.5),
        "logsumexp": lambda: logsumexp(-euclidean_distances(x, y, squared=True), axis=1, keepdims=True),
        "argkmin": neighbours,
    }[problem.kind]


@dataclass(frozen=True)
class Engine:
    """A column of the tables.

    Attributes
    ----------
    package, distribution : str
        What is imported; what pip calls it.
    call : callable
        Problem -> call.
    without : str
        A kind of problem that it has nothing for.
    dense : bool
        Whether it stores the matrix of all pairs.
    """

    package: str
    distribution: str
    call: Callable[[Problem], Call]
    without: str = ""
    dense: bool = False


OURS = "kernelops"
ENGINES = {
    OURS: Engine("kernelops", "kernelops", partial(genred, "kernelops")),
    "KeOps": Engine("pykeops", "pykeops", partial(genred, "pykeops")),
    "dense torch": Engine("torch", "torch", dense_torch, dense=True),
    "scikit-learn": Engine("sklearn", "scikit-learn", scikit_learn, without="gradient", dense=True),
}
PEERS = [name for name in ENGINES if name != OURS]


def present() -> list[str]:
    """The engines that can be imported."""
    return [name for name, engine in ENGINES.items() if find_spec(engine.package)]
