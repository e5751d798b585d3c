"""Patterns of the pairs of a formula that may be left out of a sum or of a solve, with proof.

intervals.py bounds a formula over boxes of points by interval arithmetic, for any formula of the language and with
the roundings of float32 counted. truncate.py sorts points into blocks, bounds the formula over pairs of blocks, and
keeps a set of pairs whose complement is provably as small as was asked for.

It imports formulas, arrays, ranges and reductions; operators and front ends call it for truncate=. Begin with
truncate.py, whose docstring has the argument.
"""
