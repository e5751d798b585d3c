"""sin and cos of CUDA kernels, of numbers of any size, on the emulator."""

import numpy as np
import pytest
from cuda_emulator.emulator import compile_cuda, missing
from elementary import DTYPES, WIDE

from kernelops.program.cuda.source import include_folders

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SOURCE = '#include "trig.cuh"\n' + "".join(
    f"""
extern "C" __global__ void of_{name}(const {kind} *x, {kind} *sin, {kind} *cos,
                                    {kind} *sin_too, {kind} *cos_too, int n) {{
    for (int i = threadIdx.x; i < n; i += blockDim.x) {{
        sin[i] = kernelops::sine(x[i]);
        cos[i] = kernelops::cosine(x[i]);
        kernelops::sine_and_cosine(x[i], sin_too[i], cos_too[i]);
    }}
}}
"""
    for name, kind in (("float32", "float"), ("float64", "double"))
)


def operands(dtype):
    f, rng, n = np.finfo(dtype), np.random.default_rng(0), 20_000
    parts = [rng.uniform(-far, far, n) for far in (1, 10, 1e5, 4e9)]
    parts += [np.exp(rng.uniform(np.log(1e-30), np.log(f.max), n))]
    parts += [np.pi / 2 * rng.integers(-far, far, n) for far in (70_000, 2**40)]
    parts += [[0.0, -0.0, f.max, -f.max, f.tiny, -f.smallest_subnormal, np.inf, -np.inf, np.nan]]
    parts += [[6381956970095103 * 2.0**797]] if dtype == "float64" else []  # the nearest to a multiple of pi/2
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sin_and_cos_of_numbers_of_any_size(dtype):
    x = operands(dtype)
    found = [np.empty_like(x) for _ in range(4)]
    module = compile_cuda(SOURCE, include_dirs=include_folders())
    module.launch(f"of_{dtype}", 1, 128, [x, *found, np.int32(len(x))])
    np.testing.assert_array_equal(found[2:], found[:2])
    with np.errstate(all="ignore"):
        truth = [f(x.astype(WIDE[dtype])) for f in (np.sin, np.cos)]
        for got, want in zip(found, truth, strict=False):
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            number = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(want)[number])
            assert (abs(got - want) / np.spacing(abs(want).astype(dtype)))[number].max() < 1.6
