"""Solvers for A x = b with A symmetric positive definite; they see A as its products and know nothing of formulas."""

from .cg import cg
from .solution import Solution
from .solve import judge, solve

__all__ = ["Solution", "cg", "judge", "solve"]
