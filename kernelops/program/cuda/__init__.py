"""Programs as CUDA C++, as text: no GPU is needed to write it.

source.py is the door: a program and the way its kernel is cut give the text of one kernel. signature.py says which
arguments the kernel has, layout.py how its threads share rows and columns, emit.py writes a program's instructions
as statements, kernel.py the body around them, epilogue.py and combine.py what becomes of the sums. rewrite.py and
register_tiles.py prepare long vectors and matrix products, double_float.py says what two floats can compute.

It imports the programs of kernelops.program, and nothing that runs them. kernelops.gpu compiles the text, together
with the headers in cuda/, and kernelops.engines launches it. Begin with source.py, and with cuda/README.md.
"""
