"""Block conjugate gradients: the columns of a block search in one space, which none of them would reach alone."""

from __future__ import annotations

import numpy as np

from .cg import HOPELESS, Exits, Residual, Watch, any_in_batch, check_claims
from .journal import SolveLog
from .stagnation import ResidualGap
from .vectors import HOST, Block, BlockFunction, Vectors

# Of the largest eigenvalue of a Gram matrix of unit vectors: below it a direction is one of the others. The vectors of
# float32 differ from dependent ones by rounding of 1e-7 and a few times that, squared; Gram matrices are float64.
DEPENDENT = {"f": 1e-12, "F": 1e-12, "d": 1e-14, "D": 1e-14}


def block_conjugate_gradients(
    product: BlockFunction,
    x: Block,
    r: Block,
    goal: np.ndarray,
    maxiter: int,
    log: SolveLog,
    *,
    precondition: BlockFunction | None = None,
    recompute: Residual | None = None,
    watch: Watch | None = None,
    keep_best: bool = False,
    gap: ResidualGap | None = None,
    vectors: Vectors = HOST,
) -> Exits:
    """Solve A X = B, every column with the directions of all; the arguments are those of `conjugate_gradients`.

    With R = B - A X and an orthonormal basis P of the directions, each step minimises the energy norm of the error of
    every column over the span of P:

        Q = A P,  W = P^H Q,  X += P W^-1 P^H R,  R -= Q W^-1 P^H R,
        P = orth(Z - P W^-1 Q^H Z)  with Z = M R.

    That is the method of O'Leary (1980, Linear Algebra Appl. 29). Where columns are dependent, or become so, W would be
    singular; a basis of what they span has fewer columns and no such trouble (Ji and Li 2017, BIT 57). Neither formula
    takes R to be the residual that the last step left, so that any column of it can be replaced by a better one.

    One element of a batch may have fewer directions than another; columns of zeros stand for those it does not have.
    """
    shape = goal.shape
    exits = Exits.none(shape)
    running = np.ones(shape, bool)
    norm, best, start = np.zeros(shape), np.full(shape, np.inf), np.zeros(shape)
    eps = float(np.finfo(vectors.dtype(r)).eps) / 2
    gap = ResidualGap(shape, eps) if gap is None else gap
    highest, lowest = np.zeros(shape[:-1]), np.full(shape[:-1], np.inf)  # Rayleigh quotients of A

    whole, left, columns = x, r, np.arange(shape[-1])  # columns that are done leave x and r, and stay in these two
    if keep_best:
        x = vectors.copy(x)
    p = q = inverse = None  # the last directions, A times them, and W^-1; none if it starts anew

    def norms(*blocks: Block) -> list[np.ndarray]:
        """The norms of the active columns of some blocks, at the places of all columns."""
        found = [np.zeros(shape) for _ in blocks]
        for values, squares in zip(found, vectors.scalars(dots=[(v, v) for v in blocks]), strict=True):
            values[..., columns] = np.sqrt(squares.real)
        return found

    def current() -> Block:
        """The iterate of all columns."""
        if not keep_best and x is whole:
            return whole
        full = vectors.copy(whole)
        vectors.put(full, columns, x, running[..., columns] if keep_best else None)
        return full

    def write_back() -> None:
        """Copy the active columns to the arrays of all columns."""
        if x is not whole and not keep_best:
            vectors.put(whole, columns, x)
        if r is not left:
            vectors.put(left, columns, r)

    (size,) = norms(r)
    for k in range(maxiter + 1):
        norm = np.where(running, size, norm)
        if not np.isfinite(norm).all():
            exits.nonfinite = True
            log.record(norm)
            break

        claims = running & (norm <= gap.target(goal, norm))
        sure = claims  # if norm is that of the true residual, or must do for it
        if recompute is None or k == 0:
            start = norm if k == 0 else start
            claims |= running & (gap.attainable > HOPELESS * start)  # even |r| = |b| could not be told from rounding
            exits.converged |= claims
        elif claims.any():
            norm, sure, replaced = check_claims(recompute, gap, exits, claims, norm, goal, (x, r, columns), vectors)
            if replaced.any():
                p = q = inverse = None
        if keep_best:
            better = running & (sure | (norm < best))  # what was carried along before a check was not sure
            best[better] = norm[better]
            if better.any():
                vectors.put(whole, columns, x, better[..., columns])
        running &= ~(exits.converged | exits.stagnated)
        log.record(norm)
        if k == maxiter or exits.stopped or not running.any():
            break

        remaining = np.flatnonzero(any_in_batch(running[..., columns]))
        if len(remaining) < len(columns):
            write_back()
            x, r = vectors.take(x, remaining), vectors.take(r, remaining)
            columns = columns[remaining]

        z = r if precondition is None else precondition(r)
        weight = np.where(running, norm, 0.0)[..., columns]  # 0 for what has left its element, but not the batch
        found = vectors.scalars([(r, z)] * (precondition is not None), [(q, z)] * (p is not None))
        if precondition is not None:
            rz = np.zeros(shape)
            rz[..., columns] = found[0].real
            if not np.isfinite(rz[running]).all():
                exits.nonfinite = True
                break
            exits.indefinite_preconditioner |= running & ~(rz > 0)
            running &= ~exits.indefinite_preconditioner
            if exits.indefinite_preconditioner.any():  # an M that is not positive definite is no good for any column
                break
        moved = z
        if p is not None:  # A-orthogonal to the last directions
            back = inverse @ found[-1]
            moved = vectors.combine(p, -back)
            vectors.axpy(np.ones_like(weight), z, moved)
        anew = p is None
        p, full_rank = orthonormal(moved, weight > 0, vectors)
        if p is None and not anew:  # nothing is left but what was searched: what rounding has left of it, then
            p, full_rank = orthonormal(z, weight > 0, vectors)
        if p is not None:  # from nearly dependent columns it is not orthonormal to rounding before the second time
            p, full_rank = orthonormal(p, full_rank, vectors)
        del z, moved
        if p is None:  # nothing but zeros, as from an M that is singular
            exits.indefinite_preconditioner |= running
            break

        q = product(p)
        w, pr = vectors.scalars(grams=[(p, q), (p, r)])
        if not np.isfinite(w).all():
            exits.nonfinite = True
            break
        w = (w + np.swapaxes(w, -1, -2).conj()) / 2
        values, eigenvectors = vectors.eigh(w)
        own = (np.abs(eigenvectors) ** 2 * full_rank[..., None]).sum(axis=-2) > 0.5  # not those of the columns of zeros
        highest = np.maximum(highest, np.where(own, values, 0.0).max(axis=-1))
        rounding = eps * highest[..., None]
        broken = (own & (values < -rounding)).any(axis=-1) | ~(own & (values > rounding)).any(axis=-1)
        exits.indefinite |= running & broken[..., None]
        running &= ~exits.indefinite
        if not running.any():
            break
        use = own & (values > rounding) & ~broken[..., None]
        lowest = np.minimum(lowest, np.where(use, values, np.inf).min(axis=-1))
        reciprocal = np.divide(1.0, values, out=np.zeros_like(values), where=use)
        inverse = (eigenvectors * reciprocal[..., None, :]) @ np.swapaxes(eigenvectors, -1, -2).conj()
        step = inverse @ pr
        step *= running[..., None, columns]
        gap.observe_norm(np.broadcast_to(highest[..., None], shape))
        vectors.axpy(np.ones(step.shape[:-2] + step.shape[-1:]), vectors.combine(p, step), x)
        vectors.axpy(np.ones(step.shape[:-2] + step.shape[-1:]), vectors.combine(q, -step), r)
        size, *sizes = norms(r, *[x] * (k % gap.interval == 0))
        if sizes:
            gap.update(sizes[0])

        log.step(np.full(shape, np.nan), np.zeros(shape))
        log.observe_quotients(float(lowest.min()), float(highest.max()))
        if watch is not None:
            try:
                watch(current)
            except StopIteration:
                exits.stopped = True

    write_back()
    return exits


def orthonormal(z: Block, wanted: np.ndarray, vectors: Vectors) -> tuple[Block, np.ndarray]:
    """An orthonormal basis of what the wanted columns of z span, and which of its columns are not zeros.

    Columns are made unit vectors first, so that a small residual counts as much as a large one. The basis is None if
    there is nothing to span.
    """
    gram = vectors.gram(z, z)
    size = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1).real, 0.0))
    unit = np.divide(1.0, size, out=np.zeros_like(size), where=wanted & (size > 0) & np.isfinite(size))
    values, eigenvectors = vectors.eigh(gram * unit[..., :, None] * unit[..., None, :])
    independent = values > DEPENDENT[vectors.dtype(z).char] * np.maximum(values[..., -1:], 0.5)
    most = int(independent.sum(axis=-1).max(initial=0))
    if most == 0:
        return None, independent
    values, eigenvectors, independent = values[..., -most:], eigenvectors[..., -most:], independent[..., -most:]
    root = np.divide(1.0, np.sqrt(np.maximum(values, 0.0)), out=np.zeros_like(values), where=independent)
    return vectors.combine(z, unit[..., :, None] * eigenvectors * root[..., None, :]), independent
