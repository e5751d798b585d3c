"""Preconditioners: SciPy LinearOperators near the inverse of A = diag(alpha) + K, with a factor and a determinant.

base.py says what each one is. cholesky.py is a dense factor, jacobi.py the diagonal, pivoted_cholesky.py and nystrom.py
make low-rank ones (low_rank.py), fsai.py a sparse factor of the inverse from the entries of neighbours (neighbours.py,
local_factors.py).

They see K by solvers/entries.py alone. policy.py chooses one and builds it. Begin with base.py; CONTRIBUTING.md shows
how one is added.
"""
