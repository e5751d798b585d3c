"""Random calls of the engine, against a dense oracle in extended precision, and against themselves.

Some at each run of the suite, from seed 0; KERNELOPS_FUZZ_SEEDS says how many, KERNELOPS_FUZZ_FIRST the first:

    KERNELOPS_FUZZ_SEEDS=1 KERNELOPS_FUZZ_FIRST=1234 pytest tests/campaigns      (one seed again)

A result is right if it is within the bound of the oracle, where that has one. Whatever it is, it is the same to the bit
for any number of threads and for any layout of the arrays in memory.
"""

import os

import numpy as np
import pytest
from bound_reduction import BoundReduction
from campaigns.oracle import evaluate
from campaigns.random_calls import make

from kernelops import _core
from kernelops.engines import cpu
from kernelops.reductions.kinds import REDUCTIONS
from kernelops.reductions.pairs import evaluate_all_pairs

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of the oracle
SEEDS = int(os.environ.get("KERNELOPS_FUZZ_SEEDS", "150"))
FIRST = int(os.environ.get("KERNELOPS_FUZZ_FIRST", "0"))
TOGETHER = 25  # seeds of a test
LONGEST = 80  # of a chain of sums in the engine's precision, before float64 takes over
JUDGED = 0.5  # of the calls, at the least


def run(case, arrays, threads, monkeypatch):
    """What the engine makes of a call with that many threads: a list of arrays."""
    reduce = _core.reduce
    with monkeypatch.context() as patch:
        patch.setattr(_core, "reduce", lambda *args, **words: reduce(*args, **(words | {"threads": threads})))
        with np.errstate(all="ignore"):
            call = BoundReduction(
                case.expr,
                "Sum" if case.op == "entries" else case.op,
                case.axis,
                arrays,
                weight=case.weight,
                opt_arg=case.kept,
                ranges=case.ranges,
                dtype_acc=case.accumulator,
                sum_scheme=case.scheme,
                sizes=(case.M, case.N),
            )
            if case.op == "entries":
                return [evaluate_all_pairs(case.expr, call.arguments, case.ranges, call.arguments.dtype)]
            found = call()
    return list(found) if isinstance(found, tuple) else [found]


def plain(arrays):
    """Copies in C order; arrays that are one stay one."""
    copies = {id(a): np.array(a, order="C") for a in arrays if a is not None}
    return [None if a is None else copies[id(a)] for a in arrays]


def judge(case, found):
    """How many results are right, and how many the oracle does not know; a wrong one is an AssertionError."""
    right = unknown = 0
    work = np.float64 if case.dtype == "float64" else np.float32
    mask = np.ones((case.M, case.N), bool) if case.ranges is None else case.ranges.mask(case.M, case.N)
    used = {v.position: v for e in (case.expr, case.weight) if e is not None for v in e.vars}
    for t in np.ndindex(case.batch):
        arrays = {p: _element(case.arrays[p], v, case.batch, t) for p, v in used.items()}
        want = [evaluate(e, arrays, work) for e in (case.expr, case.weight) if e is not None]
        parts = [[np.broadcast_to(a, (case.M, case.N, a.shape[-1])) for a in rough] for rough in want]
        with np.errstate(all="ignore"):
            verdicts = _judged(case, [a[t] if case.batch else a for a in found], parts, mask, work)
        for good, known, text in verdicts:
            assert (good | ~known).all(), text(np.argwhere(known & ~good)[0])
            right += int((good & known).sum())
            unknown += int((~known).sum())
    return right, unknown


def _element(a, v, batch, t):
    """The rows of one element of a batch."""
    tail = a.ndim - (1 if v.op == "Pm" else 2)
    place = t[len(batch) - tail :] if tail else ()
    a = a[tuple(0 if n == 1 else k for n, k in zip(a.shape[:tail], place, strict=True))]
    return a.reshape(-1, v.dim)


def _judged(case, found, parts, mask, work):
    """(whether right, whether known, what to say of a place) for each array that was found."""
    kind = REDUCTIONS.get(case.op)
    value, error = parts[0]
    inside, axis, eps = mask[..., None], 1 if case.axis == 1 else 0, np.finfo(work).eps
    out = np.finfo(case.dtype)
    if case.op == "entries":
        bound = error + out.eps * np.abs(value) + out.smallest_subnormal
        return [_close(found[0], np.where(inside, value, 0), np.where(inside, bound, 0), out)]
    if kind.accumulator == "best":
        return _best(case, kind, found, value, error, inside, out)
    if kind.accumulator == "sum":
        want, bound = _summed(value, error, inside, axis, eps)
    else:
        weight = parts[1] if len(parts) > 1 else (np.ones((1, 1, 1)), np.zeros((1, 1, 1)))
        want, bound = _exponential(kind, value, error, weight, inside, axis, eps)
    return [_close(found[0], want, bound + out.eps * np.abs(want) + out.smallest_subnormal, out)]


def _summed(value, error, inside, axis, eps):
    """A sum and the bound of its error, over an axis."""
    size = np.where(inside, np.abs(value), 0).sum(axis)
    want = np.where(inside, value, 0).sum(axis)
    return want, np.where(inside, error, 0).sum(axis) + LONGEST * eps * size


def _exponential(kind, value, error, weight, inside, axis, eps):
    """The logarithm of a sum of weighted exponentials, or a mean with them as weights."""
    top = np.where(inside, value, -np.inf).max(axis, keepdims=True, initial=-np.inf)
    power = np.where(inside, np.exp(value - np.where(np.isfinite(top), top, 0)), 0)
    spread = power * (2 * error + 8 * eps * (1 + np.abs(value)) + 8 * eps * np.abs(np.where(np.isfinite(top), top, 0)))
    spread = np.where(inside & (error > 0.5), np.inf, spread)  # first order is not enough
    total, total_bound = _summed(power, spread, inside, axis, eps)
    w, w_error = weight
    bound = np.abs(w) * spread + w_error * (power + spread)
    above, above_bound = _summed(w * power, np.where(inside, bound, 0), inside, axis, eps)
    if kind.results == ("log",):
        relative = above_bound / np.abs(above)
        relative = np.where(relative < 0.25, 2 * relative, np.where((above == 0) & (above_bound == 0), 0, np.inf))
        flat = np.where(np.isfinite(top), top, 0).squeeze(axis)
        want = np.log(above) + flat
        return want, relative + 4 * eps * (1 + np.abs(want) + np.abs(flat))
    empty = ~inside.any(axis)
    want = np.where(empty, 0, above / np.where(empty, 1, total))
    bound = np.where(empty, 0, (above_bound + np.abs(want) * total_bound) / total)
    return want, np.where(total_bound < total / 4, 2 * bound, np.where(empty, 0, np.inf))


def _best(case, kind, found, value, error, inside, out):
    """Values that are kept, by their order; indices, by the values that they name."""
    kept, sign = case.kept or 1, -1 if kind.largest else 1
    inside = np.broadcast_to(inside, value.shape)
    parts = [np.moveaxis(np.where(inside, a, fill), case.axis, 0) for a, fill in ((sign * value, np.inf), (error, 0))]
    slack = 2 * parts[1].max(0, initial=0)[:, None] + np.zeros((1, kept, 1))
    missing = max(0, kept - len(parts[0]))
    order = np.concatenate([np.sort(parts[0], axis=0), np.full((missing, *parts[0].shape[1:]), np.inf)])[:kept]
    want = np.moveaxis(order, 0, 1)  # (rows, kept, dim)
    tidy = ~np.isnan(parts[0]).any(0)[:, None] & np.ones((1, kept, 1), bool)
    verdicts, allowed = [], np.moveaxis(inside, case.axis, 0)
    for name, a in zip(kind.results, found, strict=True):
        a = a.reshape(want.shape)
        if name == "values":
            got, half = sign * a.astype(np.longdouble), out.eps * np.abs(want) + out.smallest_subnormal
            good = (got == want) | (np.abs(got - want) <= slack + half)
            known = tidy & np.isfinite(slack) & ((np.abs(want) < out.max) | np.isinf(want))
        else:
            rows = len(parts[0])
            named = np.clip(np.moveaxis(a, 1, 0), 0, max(rows - 1, 0))
            there, met = want, a < 0
            if rows:
                there, met = (np.moveaxis(np.take_along_axis(p, named, 0), 0, 1) for p in (parts[0], allowed))
            filled = np.moveaxis(allowed.sum(0)[None] > np.arange(kept)[:, None, None], 0, 1)
            once = np.sort(a, axis=1)
            twice = ((once[:, 1:] == once[:, :-1]) & (once[:, 1:] >= 0)).any(1, keepdims=True)
            near = (there == want) | (np.abs(there - want) <= 2 * slack)
            good = np.where(filled, (a >= 0) & (a < rows) & met & near, a == -1) & ~twice
            known = tidy & np.isfinite(slack)
        verdicts.append(
            (
                good,
                np.broadcast_to(known, good.shape),
                lambda at, n=name, a=a: f"{n} {a[tuple(at)]} at {tuple(at)}, not {want[tuple(at)]}",
            )
        )
    return verdicts


def _close(found, want, bound, out):
    got = found.astype(np.longdouble)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    good = same | (np.abs(got - want) <= bound)
    known = np.isfinite(bound) & (np.isnan(want) | np.isinf(want) | (np.abs(want) + bound < out.max))
    return good, known, lambda at: f"{found[tuple(at)]} at {tuple(at)}, not {want[tuple(at)]} +- {bound[tuple(at)]:.3g}"


def attempt(seed, monkeypatch):
    """The counts of ``judge``; an AssertionError names the seed."""
    case = make(seed)
    rng = np.random.default_rng((seed, 1))
    isa = str(rng.choice(cpu.available_instruction_sets()))
    monkeypatch.setenv("KERNELOPS_ISA", isa)
    where = f"seed {seed}, {isa}: {case}"
    try:
        found = run(case, case.arrays, 1, monkeypatch)
        again = run(case, plain(case.arrays), 3, monkeypatch)
        for a, b in zip(found, again, strict=True):
            np.testing.assert_array_equal(a, b, "other threads and other memory")
            assert a.dtype == b.dtype
        return judge(case, found)
    except Exception as error:
        raise AssertionError(f"{where}\n{type(error).__name__}: {error}") from error


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, TOGETHER))
def test_random_calls(first, monkeypatch):
    right, unknown = 0, 0
    for seed in range(first, min(first + TOGETHER, FIRST + SEEDS)):
        counts = attempt(seed, monkeypatch)
        right, unknown = right + counts[0], unknown + counts[1]
    assert right >= JUDGED * (right + unknown), f"the oracle knows {right} of {right + unknown} results"


# ---- the judge ------------------------------------------------------------------------------------------------------


def test_results_that_are_a_little_wrong_are_convicted(monkeypatch):
    """By a fiftieth, or by one place; most of them, for some calls have no number that is known."""
    convicted, tried = 0, 0
    for seed in range(40):
        case = make(seed)
        found = run(case, case.arrays, 1, monkeypatch)
        if case.special or judge(case, found)[0] == 0:
            continue
        wrong = [
            a + 1 if a.dtype.kind == "i" else a + a.dtype.type(0.02) * np.abs(a) + a.dtype.type(0.02) for a in found
        ]
        tried += 1
        try:
            with np.errstate(all="ignore"):
                judge(case, wrong)
        except AssertionError:
            convicted += 1
    assert tried >= 20 and convicted >= 0.8 * tried, (convicted, tried)
