"""Solvers for A x = b with A symmetric positive definite; they see A as its products and know nothing of formulas."""

from .scipy_cg import cg
from .solution import Solution
from .solve import judge, solve
from .state import SolveState

__all__ = ["Solution", "SolveState", "cg", "judge", "solve"]
