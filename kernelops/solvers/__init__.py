"""Solvers for A x = b with A symmetric positive definite. They know A by its products and no formula.

solve.py is the door: it asks policy.py for a plan (method and preconditioner, by the weights of cost_model.py), runs
cg.py or block_cg.py in rounds of refine.py, or the dense factor, and has summarize.py say what came of it, as a
Solution; status.py has the message of each way in which a solve can end. operator.py is the interface that solvers
are written against, vectors.py the operations on blocks of vectors, entries.py the single entries that
preconditioners (precond/) are built from. quadrature.py estimates log-determinants by lanczos.py; state.py carries a
solve over to the next one; scipy_cg.py is SciPy's cg.

It imports the engines (for threads and dense factors), arrays and ranges; the operators and everything above import
it. Begin with solve.py; problem.py holds the mathematics of residuals that all of it shares.
"""

from .scipy_cg import cg
from .solution import Solution
from .solve import solve, warn_or_raise
from .state import SolveState

__all__ = ["Solution", "SolveState", "cg", "solve", "warn_or_raise"]
