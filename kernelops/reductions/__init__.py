"""A formula reduced over i or over j: sums, logarithms of sums of exponentials, softmax, minima and their indices.

kinds.py is the table of reductions with the checks of what each takes; reduction.py is a reduction as a value,
which runs on the engine that the arrays call for; pairs.py evaluates a formula at single pairs instead of reducing it.

It imports formulas, arrays, ranges and the engines. The kernel matrices of kernelops.operators, truncation and the
front ends import it. Begin with kinds.py; CONTRIBUTING.md shows how a reduction is added.
"""
