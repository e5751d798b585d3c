"""Programs: a formula as instructions for tiles of numbers, which an engine can run.

compile.py is the door: a formula, and how it is reduced, give a Program. placement.py says how often each node has to
be evaluated (once, for each row, for each column or for each pair), lowering.py writes the instructions, allocate.py
gives them registers, and verify.py proves a program safe before an engine trusts it. instructions.py holds the data.
options.py lists what a kernel is made for besides its program; cuda/ writes a program as the text of a CUDA kernel.

It imports kernelops.formula and the standard library, and touches no array. The extension module and kernelops.engines
import it. Begin with `print(program)`: it shows the listing that docs/internals.md explains line by line.
"""
