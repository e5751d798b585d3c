"""Whose an array is, where it lies, and how it travels between host and device.

arguments.py checks the arrays of a call once, for both doors: shapes, dtypes, batches, sizes. device_array.py reads
what an array on a GPU says of itself, whatever library made it; libraries.py returns results in the library of the
inputs; transfer.py copies arrays to a device; permute.py puts rows into the order that ranges have; backend.py reads
backend= and device_id=.

It imports the formulas' variables, kernelops.gpu and kernelops.ranges; the engines and everything above them import
it. Torch, CuPy and PyCUDA are known by their arrays, and are never imported here before a user has. Begin with
arguments.py.
"""
