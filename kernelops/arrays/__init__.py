"""The arrays of a call: their checks, their library, and their way between host and device.

arguments.py checks the arrays of a call once, for both doors: shapes, dtypes, batches, sizes. device_array.py reads
the address, shape and strides of an array on a GPU, of any library; libraries.py returns results in the library of the
inputs; transfer.py copies arrays to a device; permute.py puts rows into the order that ranges have; backend.py reads
backend= and device_id=.

It imports the formulas' variables, kernelops.gpu and kernelops.ranges; the engines and everything above them import
it. Torch, CuPy and PyCUDA are known by their arrays, and are never imported here before a user has. Begin with
arguments.py.
"""
