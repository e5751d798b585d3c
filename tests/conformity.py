"""What every implementation of the solvers' protocols, Vectors and Operator, has to do.

A check of vectors is a function of them and of blocks, which returns blocks and scalars; beside it stands what it does
to numpy arrays. If rows are shared out over processes, each is called with its own rows.
"""

import inspect

import numpy as np

from kernelops.solvers.entries import DenseEntries
from kernelops.solvers.operator import Operator
from kernelops.solvers.precond.jacobi import Jacobi
from kernelops.solvers.vectors import Vectors

DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(40, 3), (2, 40, 3), (1, 1), (9000, 4), (40, 0)]


def block(shape, dtype, seed=0):
    draw = np.random.default_rng(seed)
    a = draw.standard_normal(shape)
    return (a + 1j * draw.standard_normal(shape) if np.dtype(dtype).kind == "c" else a).astype(dtype)


def wide(dtype):
    return np.result_type(dtype, np.float64)


def short(dtype):
    return np.dtype(np.complex64 if np.dtype(dtype).kind == "c" else np.float32)


def close(found, wanted, dtype):
    """Equal to rounding in this dtype, in the dtype of what is wanted."""
    assert isinstance(found, np.ndarray) and found.shape == wanted.shape and found.dtype == wanted.dtype
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max(initial=0.0))


def members(protocol):
    return [name for name in vars(protocol) if not name.startswith("_")] + ["overlaps"] * (protocol is Vectors)


def check_signatures(implementation):
    """Every operation is there, under the names of arguments by which the solvers may pass them."""
    for name in members(Vectors):
        there = getattr(implementation, name)
        if callable(there):
            wanted = inspect.signature(getattr(Vectors, name)).parameters
            assert list(inspect.signature(there).parameters) == [p for p in wanted if p != "self"], name


def host(vectors, x):
    return np.asarray(vectors.to_host(x))


# ---- vectors ----


def make_and_copy(vectors, x):
    assert vectors.is_block(x) == (not isinstance(x, np.ndarray)) and not vectors.is_block([1.0])
    assert vectors.dtype(x) == host(vectors, x).dtype
    zeros = vectors.zeros(tuple(x.shape), "float64")
    filled = vectors.copy(x)
    vectors.fill(filled, 2.0)
    again = vectors.from_host(host(vectors, x))
    return (vectors.copy(x, "complex128"), zeros, filled, again), ()


def make_and_copy_of_numpy(x):
    return (x.astype("complex128"), np.zeros(x.shape), np.full_like(x, 2.0), x), ()


def columns(vectors, x, y):
    """Joined, taken and put; a copy is independent of what it was made from."""
    last = np.arange(x.shape[-1])[-2:]
    every = np.arange(x.shape[-1])
    joined, taken, all_taken = vectors.join(x, y), vectors.take(x, last, "complex128"), vectors.take(x, every)
    vectors.fill(all_taken, 1.0)
    put, chosen = vectors.copy(x), vectors.copy(x)
    vectors.put(put, last, vectors.take(y, last))
    where = np.zeros((*x.shape[:-2], len(last)), bool)
    where[..., -1:] = True
    vectors.put(chosen, last, vectors.take(y, last), where)
    replaced = vectors.copy(x)
    vectors.put(replaced, every, y, np.ones((*x.shape[:-2], len(every)), bool))
    return (joined, taken, all_taken, put, chosen, replaced, x), ()


def columns_of_numpy(x, y):
    put, chosen = x.copy(), x.copy()
    put[..., -2:], chosen[..., -1:] = y[..., -2:], y[..., -1:]
    taken = x[..., -2:].astype("complex128")
    return (np.concatenate([x, y], axis=-1), taken, np.ones_like(x), put, chosen, y, x), ()


def numbers(x):
    """A real number for every column."""
    return np.random.default_rng(5).standard_normal((*x.shape[:-2], x.shape[-1]))


def sums(vectors, x, y):
    a = numbers(x)
    axpy, aypx, scaled = vectors.copy(y), vectors.copy(y), vectors.copy(x)
    vectors.axpy(a, x, axpy)
    vectors.aypx(a, x, aypx)
    vectors.scale(a, scaled)
    c = block((*x.shape[:-2], x.shape[-1], 2), wide(vectors.dtype(x)), 3)
    return (axpy, aypx, scaled, vectors.combine(x, c), vectors.round(x, short(vectors.dtype(x)))), ()


def sums_of_numpy(x, y):
    a = numbers(x)[..., None, :].astype(x.real.dtype)
    c = block((*x.shape[:-2], x.shape[-1], 2), wide(x.dtype), 3).astype(x.dtype)
    return (y + a * x, x + a * y, a * x, x @ c, x.astype(short(x.dtype)).astype(x.dtype)), ()


def products(vectors, x, y):
    several = vectors.scalars([(x, y), (y, y)], [(y, x)])
    return (), (vectors.dot(x, y), vectors.gram(x, y), vectors.largest(x), *several, *vectors.scalars())


def products_of_numpy(x, y):
    u, v = x.astype(wide(x.dtype)), y.astype(wide(y.dtype))
    largest = np.abs(x).max(axis=-2, initial=0.0).astype(np.float64)
    dots = [(a.conj() * b).sum(axis=-2) for a, b in ((u, v), (u, v), (v, v))]
    grams = [np.swapaxes(a, -1, -2).conj() @ b for a, b in ((u, v), (v, u))]
    return (), (dots[0], grams[0], largest, dots[1], dots[2], grams[1])


def step(vectors, p, q, x, r):
    """A step of conjugate gradients, with columns that rest and one whose curvature is too small, and what follows."""
    x, r, p = vectors.copy(x), vectors.copy(r), vectors.copy(p)
    rz, least, running = step_numbers(p)
    found = vectors.cg_update(p, q, x, r, rz, least, running, [(x, x), (r, q)])
    turned = vectors.next_direction(found, r, r, p, np.full(rz.shape, 2.0), running)
    return (x, r, p), (*vectors.read(found), *vectors.read(turned))


def step_numbers(p):
    shape = (*p.shape[:-2], p.shape[-1])
    running, least = np.ones(shape, bool), np.full(shape, -np.inf)
    running[..., 1:2], least[..., 2:3] = False, np.inf
    return numbers(p), least, running


def step_of_numpy(p, q, x, r):
    rz, least, running = step_numbers(p)
    dot = lambda u, v: (u.astype(wide(u.dtype)).conj() * v).sum(axis=-2).real  # noqa: E731
    curvature = dot(p, q)
    s = np.divide(rz, curvature, out=np.zeros(rz.shape), where=running & (curvature > least))
    across = s[..., None, :].astype(p.real.dtype)
    x, r = x + across * p, r - across * q
    rr = dot(r, r)
    t = np.where(running, rr / 2.0, 0.0)[..., None, :].astype(p.real.dtype)
    return (x, r, r + t * p), (curvature, s, rr, dot(x, x), dot(r, q), rr)


def preconditioned(vectors, x, diagonal):
    """By the diagonal of the own rows, in the dtype of the block; each element of a batch by its own, or all by one."""
    own = host(vectors, diagonal)[:, 0]
    M = [Jacobi(DenseEntries(np.diag(own * (1 + k))), 0.0) for k in range(2)] if len(own) else []
    if not M:  # a process without rows
        return (x, x), ()
    each = M[: x.shape[0]] if x.ndim == 3 else M[:1]
    return (vectors.precondition(M[:1], x), vectors.precondition(each, x)), ()


def preconditioned_of_numpy(x, diagonal):
    each = np.arange(1, 3)[:, None, None] if x.ndim == 3 else 1
    return ((x / diagonal).astype(x.dtype), (x / (each * diagonal)).astype(x.dtype)), ()


CHECKS = {
    "make and copy": (make_and_copy, make_and_copy_of_numpy, 1),
    "columns": (columns, columns_of_numpy, 2),
    "sums": (sums, sums_of_numpy, 2),
    "products": (products, products_of_numpy, 2),
    "step": (step, step_of_numpy, 4),
}


# ---- operators ----


def check_operator(A, dense, alpha=0.0):
    """A is an Operator, and multiplies by the matrix `dense` (n, n), or (..., n, n), of which alpha is the diagonal."""
    for name in members(Operator):
        assert hasattr(A, name), name
    n, vectors = dense.shape[-1], A.vectors
    assert (A.n, A.global_n) == (n, n) and isinstance(A.name, str) and isinstance(A.native, bool)
    assert isinstance(A.dtype, np.dtype) and A.dtype.char in "efdFD" and A.symmetric in ("yes", "no", "unknown")
    assert isinstance(A.alpha, np.ndarray) and (A.alpha.ndim == 0 or A.alpha.shape[-2:] in ((n, 1), (1, 1)))
    own = np.broadcast_to(A.alpha, (*A.alpha.shape[:-2], n, 1))[..., 0]
    np.testing.assert_allclose(np.broadcast_to(own, np.shape(alpha)), alpha, rtol=1e-6)

    eps = np.finfo(A.dtype).eps
    V = block((*dense.shape[:-2], n, 3), "float64")
    for dtype in ("float32", "float64") if A.native else ("float64",):
        x = vectors.from_host(V.astype(dtype))
        image = A.product(x)
        assert vectors.dtype(image) == np.result_type(dtype, A.dtype)
        error = np.abs(host(vectors, image) - dense @ V).max() / np.abs(dense @ V).max()
        assert error < 100 * max(eps, np.finfo(dtype).eps), (dtype, error)
        np.testing.assert_array_equal(host(vectors, x), V.astype(dtype))  # it is not written over
    if A.symmetric == "yes":
        np.testing.assert_allclose(dense, np.swapaxes(dense, -1, -2), rtol=0, atol=1e-12 * np.abs(dense).max())

    K = (dense - np.asarray(alpha)[..., None] * np.eye(n)).reshape(-1, n, n)
    assert len(A.entries) in (0, 1, len(K))
    for entries, wanted in zip(A.entries, K, strict=False):
        assert entries.n == n and n % entries.width == 0
        close_to = {"rtol": 0, "atol": 100 * eps * np.abs(wanted).max()}
        np.testing.assert_allclose(entries.diagonal(), np.diagonal(wanted), **close_to)
        J = np.array([n - 1, 0])
        np.testing.assert_allclose(entries.columns(J, 1), wanted[1:, J], **close_to)
        np.testing.assert_allclose(entries.blocks(J[None]), wanted[None, J[:, None], J], **close_to)
    least = np.asarray(A.least).min()
    assert least <= np.linalg.eigvalsh(K).min() + 1e-6 * np.abs(K).max()
