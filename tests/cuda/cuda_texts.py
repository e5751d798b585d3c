"""Texts of CUDA kernels by keywords, where all arrays may have one precision."""

import numpy as np

from kernelops.program.cuda.signature import variables_of
from kernelops.program.cuda.source import cuda_source, finish_source
from kernelops.program.options import KernelOptions


def options_of(program, dtype="float32", *, data=None, **options):
    """The options; data is the precision of all arrays, or those by the positions of variables."""
    given = dict.fromkeys(variables_of(program), data) if isinstance(data, str) else data or {}
    return KernelOptions(np.dtype(dtype).name, tuple(sorted(given.items())), **options)


def kernel_text(program, dtype="float32", *, rows=None, name="kernelops_reduce", **options):
    return cuda_source(program, options_of(program, dtype, **options), rows=rows, name=name)


def second_text(program, dtype="float32", *, name="kernelops_finish", **options):
    return finish_source(program, options_of(program, dtype, **options), name=name)
