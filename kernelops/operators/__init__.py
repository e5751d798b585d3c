"""alpha I + K as an operator: the centre of the package.

kernel_product.py multiplies by a kernel matrix K that is written as a formula and never stored; kernel_entries.py
gives its single entries to preconditioners; definite.py proves by rules that K is positive semidefinite, with
matern.py for the functions of Matern.
linear_operator.py is KernelOperator, SciPy's operator (entry_access.py has its rows, columns and diagonal, shift.py
its alpha); system.py is the same matrix as KernelSolve sees it, with the shapes of its blocks. device_products.py
multiplies vectors that are on a GPU, former.py lets pickles of version 0.1.0 find what has moved.

It imports reductions, truncation and solvers, which know operators by their products alone; the front ends import it.
Begin with kernel_product.py.
"""
