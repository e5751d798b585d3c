"""The preconditioners on blocks of tensors: their factors copied to the device once, and what is done with them there.

A row of FORMS makes, of a preconditioner of one class, a function of real blocks (n, k) on a device, which keeps their
dtype. It is cached as long as the preconditioner lives; a class without a row is applied on the host, by copying.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array

from ..solvers.precond.base import Identity, Preconditioner, Rescaled
from ..solvers.precond.cholesky import Cholesky
from ..solvers.precond.fsai import Fsai
from ..solvers.precond.jacobi import Jacobi
from ..solvers.precond.low_rank import LowRank
from ..solvers.units import SINGLE_DIGITS
from .tensors import OF_TORCH, on, product, row_chunks

Tensor = torch.Tensor
Form = Callable[[Tensor], Tensor]

_forms: WeakKeyDictionary[Preconditioner, dict[torch.device, Form]] = WeakKeyDictionary()


def precondition(preconditioners: Sequence[Preconditioner], x: Tensor) -> Tensor:
    """M x for a block (..., n, k), by preconditioners for each element of the batch, or by one for all."""
    if x.is_complex():
        return torch.complex(precondition(preconditioners, x.real), precondition(preconditioners, x.imag))
    if x.ndim == 2:
        return form(preconditioners[0], x.device)(x)
    flat = x.reshape(-1, *x.shape[-2:])
    each = (*preconditioners,) * (len(flat) if len(preconditioners) == 1 else 1)
    images = [form(p, x.device)(block) for p, block in zip(each, flat, strict=True)]
    return torch.stack(images).reshape(x.shape) if images else x


def form(p: Preconditioner, device: torch.device) -> Form:
    """A preconditioner as a function of blocks on this device."""
    forms = _forms.setdefault(p, {})
    if device not in forms:
        make = next((FORMS[c] for c in type(p).__mro__ if c in FORMS), _via_host)
        forms[device] = make(p, device)
    return forms[device]


def _via_host(p: Preconditioner, device: torch.device) -> Form:
    weak = ref(p)  # what is kept with p must not keep it

    def apply(V: Tensor) -> Tensor:
        found = weak()
        assert found is not None
        return on(device, np.asarray(found.matmat(V.cpu().numpy()), OF_TORCH[V.dtype]))

    return apply


def _identity(_p: Identity, _device: torch.device) -> Form:
    return lambda V: V


def _low_rank(p: LowRank, device: torch.device) -> Form:
    """As `LowRank._matmat`, step by step: the projection twice, so that float32 does not lose definiteness."""
    Q, scale, core = (on(device, a) for a in (p.Q, p.s, p.root.T @ p.root))

    def apply(V: Tensor) -> Tensor:
        s = scale.to(V.dtype)
        z = s * V
        y, again = (z.new_zeros(Q.shape[1], z.shape[1]) for _ in range(2))
        for rows in row_chunks(Q):
            y += product(Q[rows].to(z.dtype).mT, z[rows])
        for rows in row_chunks(Q):
            q = Q[rows].to(z.dtype)
            z[rows] -= product(q, y)
            again += product(q.mT, z[rows])
        y = (core @ y.to(torch.float64)).to(z.dtype) - again
        for rows in row_chunks(Q):
            z[rows] += product(Q[rows].to(z.dtype), y)
        return z.mul_(s)

    return apply


def _fsai(p: Fsai, device: torch.device) -> Form:
    """W^T W as in `Fsai`, with the inverse of L11 in its place: small, and faster to multiply with than to solve."""
    inverse = solve_triangular(p._L11, np.eye(p.rank), lower=True) if p.rank else np.empty((0, 0))
    pivots, rest, small, F2 = (on(device, a) for a in (p._pivots, p._rest, inverse, p._F2))
    G, GT, rank = Sparse(p._G, device), Sparse(csr_array(p._GT), device), p.rank

    def apply(V: Tensor) -> Tensor:
        t, w = V[pivots], V[rest]
        if rank:
            t = (small @ t.to(torch.float64)).to(V.dtype)
            for rows in row_chunks(F2):
                w[rows] -= product(F2[rows].to(V.dtype), t)
        c = GT @ (G @ w)
        if rank:
            left = t
            for rows in row_chunks(F2):
                left = left - product(F2[rows].to(V.dtype).mT, c[rows])
            t = (small.mT @ left.to(torch.float64)).to(V.dtype)
        found = torch.empty_like(V)
        found[pivots], found[rest] = t, c
        return found

    return apply


class Sparse:
    """A sparse matrix in rows, times blocks.

    torch's own sparse matrices go by cuSPARSE, which does not promise the same sum twice. A bag of embeddings is the
    same thing: a sum of some rows of a block, each with its weight, added in their order by one kernel.
    """

    def __init__(self, G: csr_array, device: torch.device) -> None:
        self.columns, self.starts = (on(device, a.astype(np.int64)) for a in (G.indices, G.indptr))
        self.values = on(device, G.data)
        self.weights = {self.values.dtype: self.values}

    def __matmul__(self, V: Tensor) -> Tensor:
        if not V.numel():
            return V.clone()
        if V.dtype not in self.weights:
            self.weights[V.dtype] = self.values.to(V.dtype)
        how: dict[str, Any] = {"mode": "sum", "include_last_offset": True, "per_sample_weights": self.weights[V.dtype]}
        return torch.nn.functional.embedding_bag(self.columns, V, self.starts, **how)


def _jacobi(p: Jacobi, device: torch.device) -> Form:
    W = on(device, p.W)
    points, width, _ = W.shape

    def apply(V: Tensor) -> Tensor:
        w = W.to(V.dtype)
        if width == 1:
            return w[:, 0] * (w[:, 0] * V)
        return product(w.mT, product(w, V.reshape(points, width, V.shape[1]))).reshape(V.shape)

    return apply


def _cholesky(p: Cholesky, device: torch.device) -> Form:
    L = on(device, p.L.T).mT  # its columns stay in one piece

    def apply(V: Tensor) -> Tensor:
        unit = V.abs().amax(dim=0, keepdim=True).clamp_min(torch.finfo(V.dtype).tiny)  # small is no smaller for float32
        half = torch.linalg.solve_triangular(L, (V / unit).to(L.dtype), upper=False)
        return torch.linalg.solve_triangular(L.mT, half, upper=True).to(V.dtype) * unit

    return apply


def _rescaled(p: Rescaled, device: torch.device) -> Form:
    inner, digits = form(p.inner, device), -p.unit // 2
    factor, far = 2.0**digits, abs(digits) > SINGLE_DIGITS

    def apply(V: Tensor) -> Tensor:
        part = V.to(torch.float64) if far else V
        return inner(part * factor).mul(factor).to(V.dtype)

    return apply


FORMS: dict[type[Preconditioner], Callable[[Any, torch.device], Form]] = {
    Identity: _identity,
    LowRank: _low_rank,
    Fsai: _fsai,
    Jacobi: _jacobi,
    Cholesky: _cholesky,
    Rescaled: _rescaled,
}
