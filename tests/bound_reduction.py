"""A reduction together with the arrays that it is called with."""

import numpy as np

from kernelops.reductions.kinds import check_reduction
from kernelops.reductions.pairs import evaluate
from kernelops.reductions.reduction import Reduction


class BoundReduction:
    """Calls, and evaluates at pairs, a reduction of checked arrays.

    Positions of variables that neither formula holds need no array, unless ``variables`` names them.
    """

    def __init__(self, expr, op, axis, args, *, variables=None, weight=None, opt_arg=None, **options):
        check_reduction(op, expr, weight, opt_arg)
        if variables is None:
            used = {v.position: v for e in (expr, weight) if e is not None for v in e.vars}
            variables, args = used.values(), args[: max(used, default=-1) + 1]
        self.reduction = Reduction(expr, op, axis, tuple(variables), weight=weight, opt_arg=opt_arg, **options)
        self.arguments = self.reduction.bind(args)

    def __call__(self, dtype=None):
        return self.reduction(self.arguments, None if dtype is None else np.dtype(dtype))

    def evaluate(self, rows, columns, dtype=None):
        return evaluate(self.reduction.expr, self.arguments, self.reduction.ranges, rows, columns, dtype)
