"""Two engines with one interface: `run(prepared, arguments, axis, ranges, options)` reduces a program over pairs.

cpu.py encodes programs for the extension module kernelops._core and runs it on threads; gpu.py launches the kernels
that program/cuda writes. tasks.py cuts ranges into tasks for both. threads.py says how many threads may be used,
blas.py keeps BLAS out of their way, and dense.py with lapack.py factors and solves dense matrices on the same
threads.

It imports programs, arrays and ranges; reductions and solvers import it. It knows no formula but as a program. Begin
with cpu.py: `prepare` and `run`.
"""
