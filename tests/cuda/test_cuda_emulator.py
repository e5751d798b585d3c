"""The CUDA emulator: kernels written by hand agree with NumPy, and faults planted into them are found."""

import ctypes
import re

import numpy as np
import pytest
from cuda_emulator import emulator
from cuda_emulator.emulator import EmulatorError, compile_cuda, missing
from judges import assert_sum_close
from tools import needs

TYPES = {"float32": "float", "float64": "double"}
ORDERS = [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2), ("random", 3)]
each_dtype = pytest.mark.parametrize("dtype", TYPES)
each_order = pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{o[0]}{o[1] or ''}")

# What is right: every barrier is said to be `needed` for something, and a test takes it away.
KERNELS = r"""
#define TILE 64

extern "C" __global__ void add(const T *a, const T *b, T *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}

// out[i] = sum_j exp(-|x_i - y_j|^2) b_j, y and b in tiles
extern "C" __global__ void __launch_bounds__(TILE)
gaussian(const T *__restrict__ x, const T *__restrict__ y, const T *__restrict__ b, T *out, int M, int N) {
    __shared__ T tile[TILE][4];
    int i = blockIdx.x * TILE + threadIdx.x;
    T xi[3] = {0, 0, 0}, sum = 0;
    if (i < M)
        for (int k = 0; k < 3; k++) xi[k] = x[3 * i + k];
    for (int start = 0; start < N; start += TILE) {
        int j = start + threadIdx.x;
        for (int k = 0; k < 3; k++) tile[threadIdx.x][k] = j < N ? y[3 * j + k] : T(0);
        tile[threadIdx.x][3] = j < N ? b[j] : T(0);
        __syncthreads(); // needed: the tile is there
#pragma unroll 4
        for (int t = 0; t < TILE; t++) {
            T d = 0;
            for (int k = 0; k < 3; k++) d += (xi[k] - tile[t][k]) * (xi[k] - tile[t][k]);
            sum += exp(-d) * tile[t][3];
        }
        __syncthreads(); // needed: all are done with the tile
    }
    if (i < M) out[i] = sum;
}

// the dot product of a and b, one atomic addition a block
extern "C" __global__ void dot(const T *a, const T *b, T *out, int n) {
    __shared__ T part[TILE];
    T sum = 0;
    for (int i = blockIdx.x * TILE + threadIdx.x; i < n; i += gridDim.x * TILE) sum += a[i] * b[i];
    part[threadIdx.x] = sum;
    for (int half = TILE / 2; half; half /= 2) {
        __syncthreads(); // needed: the upper half is there
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) atomicAdd(out, part[0]);
}

template <class S> __device__ __forceinline__ S sum_of_warp(S value) {
    for (int by = warpSize / 2; by; by /= 2) value += __shfl_down_sync(0xffffffff, value, by);
    return value;
}

// a sum for every block, by shuffles
extern "C" __global__ void warp_sum(const T *a, T *out, int n) {
    __shared__ T part[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    T sum = sum_of_warp(i < n ? a[i] : T(0));
    if (lane == 0) part[warp] = sum;
    __syncthreads(); // needed: all warps have summed
    if (warp > 0) return;
    sum = sum_of_warp(lane < blockDim.x / 32 ? part[lane] : T(0));
    if (lane == 0) out[blockIdx.x] = sum;
}

extern "C" __global__ void transpose(const T *a, T *out, int rows, int columns) {
    __shared__ T tile[16][16 + 1];
    int i = blockIdx.y * 16 + threadIdx.y, j = blockIdx.x * 16 + threadIdx.x;
    if (i < rows && j < columns) tile[threadIdx.y][threadIdx.x] = a[(long long)i * columns + j];
    __syncthreads(); // needed: the whole tile is there
    i = blockIdx.x * 16 + threadIdx.y, j = blockIdx.y * 16 + threadIdx.x;
    if (i < columns && j < rows) out[(long long)i * rows + j] = tile[threadIdx.x][threadIdx.y];
}

// every block reverses its part; two arrays in dynamic shared memory
extern "C" __global__ void reverse(T *a, int *from) {
    extern __shared__ __align__(16) unsigned char memory[];
    T *values = (T *)memory;
    int *places = (int *)(values + blockDim.x), start = blockIdx.x * blockDim.x, mirror = blockDim.x - 1 - threadIdx.x;
    values[threadIdx.x] = a[start + threadIdx.x];
    places[threadIdx.x] = threadIdx.x;
    __syncthreads(); // needed: all have read
    a[start + threadIdx.x] = values[mirror];
    from[start + threadIdx.x] = places[mirror];
}

// forward order hides what happens without the barrier
extern "C" __global__ void previous(const T *a, T *out) {
    __shared__ T row[TILE];
    row[threadIdx.x] = a[threadIdx.x];
    __syncthreads(); // needed: the one before has written
    out[threadIdx.x] = threadIdx.x ? row[threadIdx.x - 1] : row[0];
}

// neighbours of a warp exchange without a shuffle
extern "C" __global__ void rotate(const T *a, T *out) {
    extern __shared__ T row[];
    row[threadIdx.x] = a[threadIdx.x];
    __syncwarp(); // needed: the warp has written
    out[threadIdx.x] = row[threadIdx.x / 32 * 32 + (threadIdx.x + 1) % 32];
}
"""
OTHERS = r"""
struct problem {
    const T *vectors[2];
    char sign;
    long long n;
    T *out;
};

extern "C" __global__ void by_struct(problem p, short scale) {
    for (long long i = threadIdx.x; i < p.n; i += blockDim.x)
        p.out[i] = scale * (p.sign == '-' ? p.vectors[0][i] - p.vectors[1][i] : p.vectors[0][i] + p.vectors[1][i]);
}

extern "C" __global__ void histogram(const unsigned *what, int n, int *counts, int *largest, T *total) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    atomicAdd(counts + what[i], 1);
    atomicMax(largest, (int)what[i]);
    atomicAdd(total, (T)what[i]);
}

extern "C" __global__ void by_compare_and_swap(const double *a, unsigned long long *total) {
    unsigned long long seen = *total, old;
    do {
        old = seen;
        double sum = __longlong_as_double((long long)old) + a[threadIdx.x];
        seen = atomicCAS(total, old, (unsigned long long)__double_as_longlong(sum));
    } while (seen != old);
}

template <class S, int WIDTH> __global__ void rows(const S *a, S *out) {
    __shared__ S row[WIDTH], sum;
    row[threadIdx.x] = a[blockIdx.x * WIDTH + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0;
        for (int k = 0; k < WIDTH; k++) sum += row[k];
    }
    __syncthreads();
    out[blockIdx.x * WIDTH + threadIdx.x] = row[threadIdx.x] - sum;
}

extern "C" __global__ void votes(const int *a, int *out) {
    unsigned odd = __ballot_sync(0xffffffff, a[threadIdx.x] & 1);
    int any = __any_sync(0xffffffff, a[threadIdx.x] > 90), all = __all_sync(0xffffffff, a[threadIdx.x] > 10);
    int many = __syncthreads_count(a[threadIdx.x] > 50), block = __syncthreads_or(a[threadIdx.x] == 99);
    int *mine = out + 6 * threadIdx.x;
    mine[0] = (int)odd, mine[1] = any, mine[2] = all, mine[3] = many, mine[4] = block;
    mine[5] = __syncthreads_and(a[threadIdx.x] < 100);
}

extern "C" __global__ void shuffles(const T *a, T *out) {
    T v = a[threadIdx.x], *mine = out + 5 * threadIdx.x;
    mine[0] = __shfl_sync(0xffffffff, v, 3);
    mine[1] = __shfl_sync(0xffffffff, v, 3, 8);
    mine[2] = __shfl_up_sync(0xffffffff, v, 2);
    mine[3] = __shfl_down_sync(0xffffffff, v, 2, 16);
    mine[4] = __shfl_xor_sync(0xffffffff, v, 5);
}

extern "C" __global__ void half_a_warp(const T *a, T *out) {
    if (threadIdx.x % 2) out[threadIdx.x] = __shfl_sync(0xaaaaaaaa, a[threadIdx.x], 31);
    else out[threadIdx.x] = __shfl_sync(0x55555555, a[threadIdx.x], 31); // a lane that takes no part
}

extern "C" __global__ void vectors(const float4 *a, const double2 *b, float4 *out) {
    float4 v = a[threadIdx.x];
    double2 w = b[threadIdx.x];
    out[threadIdx.x] = make_float4(v.w, v.z + (float)w.x, v.y + (float)w.y, v.x);
}

extern "C" __global__ void last(int *out) { *out = blockIdx.x * blockDim.x + threadIdx.x; }

extern "C" __global__ void where(int *out) {
    int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 10000 * block + thread;
}
"""


@pytest.fixture(autouse=True)
def compiler():
    needs(missing())


@pytest.fixture
def checked():
    """Asked for by tests that need the sanitizer."""
    needs(missing(sanitize=True))


def kernels(dtype, source=KERNELS, **options):
    return compile_cuda(source, defines=[f"T={TYPES[dtype]}"], **options)


def others(dtype, **options):
    instances = [f"rows<{kind}, {width}>" for kind, width in ((TYPES[dtype], 5), (TYPES[dtype], 7), ("int", 5))]
    return kernels(dtype, OTHERS, kernels=instances, **options)


def numbers(dtype, *shape):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# ---- against NumPy ----


class Gaussian:
    """Arguments of a launch, and what must come."""

    def __init__(self, dtype, M=100, N=200):
        x, y, b = numbers(dtype, M, 3), numbers(dtype, N, 3), numbers(dtype, N)
        self.out, self.call = np.empty(M, dtype), (-(-M // 64), 64)
        self.args, self.shared = [x, y, b, self.out, ctypes.c_int(M), ctypes.c_int(N)], 0
        wide = x.astype(np.float64), y.astype(np.float64)
        self.terms = np.exp(-((wide[0][:, None] - wide[1]) ** 2).sum(-1)) * b


class Dot:
    def __init__(self, dtype):
        a, b = numbers(dtype, 1000), numbers(dtype, 1001)[1:]
        self.out, self.call, self.shared = np.zeros(1, dtype), (3, 64), 0
        self.args, self.terms = [a, b, self.out, np.int32(1000)], a.astype(np.float64)[None] * b


class WarpSum:
    def __init__(self, dtype):
        a = numbers(dtype, 500)
        self.out, self.call, self.shared = np.empty(4, dtype), (4, 128), 0
        self.args, self.terms = [a, self.out, np.int32(500)], np.r_[a, np.zeros(12, dtype)].reshape(4, 128)


class Transpose:
    def __init__(self, dtype):
        a = numbers(dtype, 37, 50)
        self.out, self.call, self.shared = np.empty((50, 37), dtype), ((4, 3), (16, 16)), 0
        self.args, self.terms = [a, self.out, np.int32(37), np.int32(50)], a.T[..., None]


class Reverse:
    def __init__(self, dtype):
        self.out, self.from_ = numbers(dtype, 300), np.empty(300, np.int32)
        self.call, self.shared, self.args = (3, 100), 100 * (self.out.itemsize + 4), [self.out, self.from_]
        self.terms = self.out.reshape(3, 100)[:, ::-1].reshape(300, 1).copy()


class Previous:
    def __init__(self, dtype):
        a = numbers(dtype, 64)
        self.out, self.call, self.shared = np.empty(64, dtype), (1, 64), 0
        self.args, self.terms = [a, self.out], np.r_[a[0], a[:-1]][:, None]


class Rotate:
    def __init__(self, dtype):
        a = numbers(dtype, 64)
        self.out, self.call, self.shared = np.empty(64, dtype), (1, 64), 64 * a.itemsize
        self.args, self.terms = [a, self.out], np.roll(a.reshape(2, 32), -1, 1).reshape(64, 1)


PROBLEMS = {
    "gaussian": Gaussian,
    "dot": Dot,
    "warp_sum": WarpSum,
    "transpose": Transpose,
    "reverse": Reverse,
    "previous": Previous,
    "rotate": Rotate,
}


def right(module, kernel, dtype, order):
    """Whether a launch of the kernel gives what NumPy gives."""
    problem = PROBLEMS[kernel](dtype)
    module.launch(kernel, *problem.call, problem.args, problem.shared, *order)
    try:
        assert_sum_close(problem.out, problem.terms, -1)
    except AssertionError:
        return False
    return True


@each_order
@each_dtype
@pytest.mark.parametrize("kernel", PROBLEMS)
def test_against_numpy(kernel, dtype, order):
    assert right(kernels(dtype), kernel, dtype, order)


@each_dtype
@pytest.mark.parametrize("kernel", PROBLEMS)
def test_the_sanitizer_finds_nothing_where_nothing_is(checked, kernel, dtype):
    assert right(kernels(dtype, sanitize=True), kernel, dtype, ("reverse", 0))


@each_dtype
@pytest.mark.parametrize("n", [1, 255, 256, 1000])
def test_addition(dtype, n):
    a, b = numbers(dtype, 2, n)
    out = np.full(n + 1, 7, dtype)
    kernels(dtype).launch("add", -(-n // 256), 256, [a, b, out, np.int32(n)])
    np.testing.assert_array_equal(out, np.r_[a + b, 7])


def test_threads_and_blocks_are_numbered_in_three_dimensions():
    out = np.zeros((2 * 3 * 4, 5 * 6 * 7), np.int32)
    others("float32").launch("where", (2, 3, 4), (5, 6, 7), [out])
    np.testing.assert_array_equal(out, 10000 * np.arange(24)[:, None] + np.arange(210))


@each_dtype
def test_structs_by_value(checked, dtype):
    a, b = numbers(dtype, 2, 40)
    modules = [others(dtype)] + [others(dtype, sanitize=True)] * (dtype == "float32")
    for module in modules:
        for sign in (b"-", b"+"):
            out = np.zeros(40, dtype)
            problem = ((a, b), ctypes.c_char(sign), np.int64(40), out)
            module.launch("by_struct", 1, 32, [problem, ctypes.c_short(-2)])
            np.testing.assert_array_equal(out, -2 * (a - b if sign == b"-" else a + b))


@each_order
@each_dtype
def test_atomics(dtype, order):
    what, counts = np.random.default_rng(1).integers(0, 10, 1000, np.uint32), np.zeros(10, np.int32)
    largest, total = np.full(1, -1, np.int32), np.zeros(1, dtype)
    args = [what, np.int32(1000), counts, largest, total]
    others(dtype).launch("histogram", 8, 128, args, 0, *order)
    np.testing.assert_array_equal(counts, np.bincount(what, minlength=10))
    assert (largest, total) == (what.max(), what.sum())
    a, swapped = np.arange(100.0), np.zeros(1)
    others(dtype).launch("by_compare_and_swap", 1, 100, [a, swapped], 0, *order)
    assert swapped == a.sum()


@each_order
@each_dtype
def test_templates(dtype, order):
    for kind, width in [(dtype, 5), (dtype, 7), ("int32", 5)]:
        kernel = f"rows<{TYPES.get(kind, 'int')}, {width}>"
        a = np.arange(4 * width, dtype=kind).reshape(4, width)
        out = np.empty_like(a)
        others(dtype).launch(kernel, 4, width, [a, out], 0, *order)
        np.testing.assert_array_equal(out, a - a.sum(1, keepdims=True))


@each_order
def test_votes(order):
    a, out = np.random.default_rng(2).integers(0, 100, 64, np.int32), np.empty((64, 6), np.int32)
    a[40] = 99
    others("float32").launch("votes", 1, 64, [a, out], 0, *order)
    warps = a.reshape(2, 32)
    odd = ((warps & 1).astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(1).astype(np.uint32).view(np.int32)
    by_warp = np.stack([odd, (warps > 90).any(1), (warps > 10).all(1)], 1).repeat(32, 0)
    np.testing.assert_array_equal(out[:, :3], by_warp)
    np.testing.assert_array_equal(out[:, 3:], np.tile([(a > 50).sum(), 1, 1], (64, 1)))


@each_order
@each_dtype
def test_shuffles(dtype, order):
    a, out, lane = numbers(dtype, 64), np.empty((64, 5), dtype), np.arange(32)
    others(dtype).launch("shuffles", 1, 64, [a, out], 0, *order)
    down = np.where(lane % 16 < 14, lane + 2, lane)
    wanted = [lane * 0 + 3, lane // 8 * 8 + 3, np.where(lane < 2, lane, lane - 2), down, lane ^ 5]
    np.testing.assert_array_equal(out.reshape(2, 32, 5), np.stack([a.reshape(2, 32)[:, w] for w in wanted], -1))


@each_order
@each_dtype
def test_a_lane_that_takes_no_part_gives_nan(dtype, order):
    a, out = numbers(dtype, 32), np.zeros(32, dtype)
    others(dtype).launch("half_a_warp", 1, 32, [a, out], 0, *order)
    assert (out[1::2] == a[31]).all() and np.isnan(out[::2]).all()


def test_vectors():
    a, b, out = numbers("float32", 10, 4), numbers("float64", 10, 2), np.empty((10, 4), np.float32)
    others("float32").launch("vectors", 1, 10, [a, b, out])
    b = b.astype(np.float32)
    wanted = np.stack([a[:, 3], a[:, 2] + b[:, 0], a[:, 1] + b[:, 1], a[:, 0]], 1)
    np.testing.assert_array_equal(out, wanted)


def test_orders_differ_and_repeat():
    def last(*order):
        out = np.empty(1, np.int32)
        others("float32").launch("last", 7, 33, [out], 0, *order)
        return int(out[0])

    assert last("forward") == 7 * 33 - 1
    assert last("reverse") == 0
    drawn = [last("random", seed) for seed in range(8)]
    assert drawn == [last("random", seed) for seed in range(8)]
    assert len(set(drawn)) > 4


# in CUDA; what NumPy makes of wider operands; units in the last place of the result, or of 1 where it is near 0
FUNCTIONS = [
    ("exp(a)", lambda a, b: np.exp(a), 1),
    ("log(b)", lambda a, b: np.log(b), 1),
    ("sqrt(b)", lambda a, b: np.sqrt(b), 1),
    ("rsqrt(b)", lambda a, b: 1 / np.sqrt(b), 2),
    ("sin(a)", lambda a, b: np.sin(a), 1),
    ("pow(b, a)", lambda a, b: b**a, 1),
    ("fma(a, b, a)", lambda a, b: a * b + a, 1),
    ("fmin(a, b)", np.minimum, 0),
    ("max(a, b)", np.maximum, 0),
    ("abs(a)", lambda a, b: abs(a), 0),
    ("sinpi(a)", lambda a, b: np.sin(np.pi * a), 4),
]
FUNCTIONS_OF_FLOAT = [
    ("exp2f(a)", lambda a, b: np.exp2(a), 1),
    ("__expf(a)", lambda a, b: np.exp(a), 8),  # the product with log2(e) is rounded
    ("__logf(b)", lambda a, b: np.log(b), 4),
    ("__fmaf_rn(a, b, a)", lambda a, b: a * b + a, 1),
    ("__fdividef(a, b)", lambda a, b: a / b, 1),
    ("__frsqrt_rn(b)", lambda a, b: 1 / np.sqrt(b), 1),
    ("__int_as_float(__float_as_int(a) ^ 0x80000000)", lambda a, b: -a, 0),
    ("(T)__float2int_rn(a)", lambda a, b: np.rint(a), 0),
    ("ex2(a)", lambda a, b: np.exp2(a), 1),
]


@each_dtype
def test_functions(dtype):
    rows = FUNCTIONS + (FUNCTIONS_OF_FLOAT if dtype == "float32" else [])
    lines = "".join(f"    out[{k} * n + i] = {text};\n" for k, (text, _, _) in enumerate(rows))
    source = f"""
__device__ float ex2(float a) {{
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(a));
    return out;
}}
extern "C" __global__ void functions(const T *x, const T *y, T *out, int n) {{
    int i = threadIdx.x;
    T a = x[i], b = y[i];
{lines}}}
"""
    n = 100
    a, b = np.random.default_rng(0).uniform([[-3], [0.1]], 3, (2, n)).astype(dtype)
    out = np.empty((len(rows), n), dtype)
    kernels(dtype, source).launch("functions", 1, n, [a, b, out, np.int32(n)])
    wide = a.astype(np.longdouble), b.astype(np.longdouble)
    for got, (text, function, units) in zip(out, rows):
        want = function(*wide)
        assert (abs(got - want) <= (units + 0.01) * np.finfo(dtype).eps * np.maximum(abs(want), units > 0)).all(), text


def test_a_subnormal_result_is_flushed_where_the_instruction_says_so():
    source = r"""
extern "C" __global__ void tiny(const float *a, float *out) {
    asm volatile ("ex2.approx.ftz.f32 %0, %1;" : "=f"(out[0]) : "f"(a[0]));
    asm ("ex2.approx.f32 %0, %1;" : "=f"(out[1]) : "f"(a[0] + 0));
    asm ("fma.rn.f32 %0, %1, %2, %3;" : "=f"(out[2]) : "f"(a[0]), "f"(fminf(a[0], 2)), "f"(1.f));
}"""
    out = np.empty(3, np.float32)
    compile_cuda(source).launch("tiny", 1, 1, [np.full(1, -140, np.float32), out])
    np.testing.assert_array_equal(out, np.float32([0, 2.0**-140, 140 * 140 + 1]))


# ---- faults ----


def without_barriers():
    """Every barrier of KERNELS: (kernel, what it is needed for, the kernel's text without it and with a new name)."""
    for text in KERNELS.split("\n\n"):
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if "needed: " in line:
                name = next(kernel for kernel in PROBLEMS if f" {kernel}(" in text or f"\n{kernel}(" in text)
                rest = "\n".join(lines[:number] + lines[number + 1 :])
                yield (
                    name,
                    line.split("needed: ")[1],
                    rest.replace(f"{name}(", f"{name}_{number}(", 1),
                    f"{name}_{number}",
                )


BARRIERS = list(without_barriers())
# what happens to come right without a barrier
HIDDEN = {"forward": {"previous"}, "reverse": {"dot", "warp_sum"}}


def test_every_kernel_with_shared_memory_has_a_barrier_to_take_away():
    assert len(BARRIERS) == KERNELS.count("__sync") and {kernel for kernel, *_ in BARRIERS} == set(PROBLEMS)


@each_dtype
@pytest.mark.parametrize("barrier", range(len(BARRIERS)), ids=[f"{kernel}: {why}" for kernel, why, *_ in BARRIERS])
def test_a_removed_barrier_shows(barrier, dtype):
    kernel, _, _, name = BARRIERS[barrier]
    common = [text for text in KERNELS.split("\n\n") if "__global__" not in text]
    module = kernels(dtype, "\n\n".join([*common, *(text for _, _, text, _ in BARRIERS)]))

    def shows(*order):
        problem = PROBLEMS[kernel](dtype)
        module.launch(name, *problem.call, problem.args, problem.shared, *order)
        return bool((~(abs(problem.out - problem.terms.sum(-1).reshape(problem.out.shape)) < 1e-3)).any())

    for order, hidden in HIDDEN.items():
        assert shows(order) == (kernel not in hidden), order
    assert all(shows("random", seed) for seed in range(3))


UNWRITTEN = r"""
template <int N> __global__ void of_template(T *out, int) {
    __shared__ T memory[N];
    out[blockIdx.x] = memory[2];
    __syncthreads();
    memory[2] = 1;
}
extern "C" __global__ void static_memory(T *out, int) {
    __shared__ T memory[3], one;
    out[blockIdx.x] = memory[2] + one;
    __syncthreads();
    memory[2] = one = 1;
}
extern "C" __global__ void dynamic_memory(T *out, int n) {
    extern __shared__ T memory[];
    out[blockIdx.x] = memory[n - 1];
    __syncthreads();
    memory[n - 1] = 1;
}
__device__ T &in_a_function(int i) {
    __shared__ alignas(16) struct { T a[4]; } memory;
    return memory.a[i];
}
extern "C" __global__ void function_memory(T *out, int n) {
    out[blockIdx.x] = in_a_function(2);
    __syncthreads();
    in_a_function(2) = 1;
}
"""


@each_order
@each_dtype
@pytest.mark.parametrize("kernel", ["of_template<3>", "static_memory", "dynamic_memory", "function_memory"])
def test_shared_memory_that_was_not_written_gives_nan(kernel, dtype, order):
    module, out = kernels(dtype, UNWRITTEN, kernels=["of_template<3>"]), np.zeros(5, dtype)
    module.launch(kernel, 5, 2, [out, np.int32(10)], 10 * out.itemsize, *order)
    assert np.isnan(out).all()


# a and out have n elements, and there are n threads: the last one is too far, or the first one
OUTSIDE = {
    "global_read": (
        "out[t] = a[t + 1];",
        r"thread \(7, 0, 0\): 0 bytes behind the end of array 0 .*heap-buffer-overflow",
    ),
    "global_write": ("out[t + 1] = a[t];", "0 bytes behind the end of array 1 .*heap-buffer-overflow"),
    "global_before": ("out[t] = a[t - 1];", r"thread \(0, 0, 0\): \d bytes before array 0 .*(overflow|poison)"),
    "global_far": ("out[t] = a[100 + t];", "array 0 .*heap-buffer-overflow"),
    "global_wild": ("out[t] = a[1ll << 60];", "SEGV"),
    "static_read": (
        "__shared__ T s[8]; s[t] = 1; out[t] = *(&s[0] + t + 1);",
        r"thread \(7, 0, 0\): 0 bytes behind the end of s:",
    ),
    "static_write": ("__shared__ T s[8], *p; p = s; p[t + 1] = 1; out[t] = p[t];", "0 bytes behind the end of s:"),
    "static_between": (
        "__shared__ T r[8], s[8], *p; p = s; r[t] = p[t] = 1; out[t] = p[t - 1];",
        r"\d bytes before s:",
    ),
    "static_index": ("__shared__ T s[8]; s[t + 1] = 1; out[t] = s[t];", "index 8 out of bounds"),
    "static_row": ("__shared__ T s[8][9]; s[0][t + 2] = 1; out[t] = s[0][t + 2];", "index 9 out of bounds"),
    "dynamic_read": (
        "extern __shared__ T s[]; s[t] = 1; out[t] = s[t + 1];",
        "0 bytes behind the end of dynamic shared memory:",
    ),
    "dynamic_write": (
        "extern __shared__ T s[]; s[t + 1] = 1; out[t] = s[t];",
        "0 bytes behind the end of dynamic shared memory:",
    ),
    "local": ("T s[8]; for (int k = 0; k <= t; k++) s[k + 1] = a[k]; out[t] = s[t];", "index 8 out of bounds"),
    "stuck": ("if (t > 4) return; __syncthreads(); out[t] = a[t];", r"thread \(5, 0, 0\) has ended"),
    "misaligned": ("struct alignas(16) two { T x[2]; }; out[t] = ((const two *)(a + 1))->x[0];", "misaligned address"),
}


def outside():
    """One kernel for each, and one of them from a template."""
    head = "(const T *a, T *out, int n) {\n    int t = threadIdx.x;\n    "
    plain = [f'extern "C" __global__ void {name}{head}{body}\n}}' for name, (body, _) in OUTSIDE.items()]
    body = OUTSIDE["static_read"][0].replace("[8]", "[N]")
    return "\n".join([*plain, f"template <int N> __global__ void of_template{head}{body}\n}}"])


@pytest.mark.parametrize("kernel", [*OUTSIDE, "of_template<8>"])
def test_the_sanitizer_finds_accesses_outside(checked, kernel, dtype="float32"):
    module = kernels(dtype, outside(), kernels=["of_template<8>"], sanitize=True)
    whole, out = np.zeros(100, dtype), np.zeros(8, dtype)  # the memory behind a belongs to somebody
    with pytest.raises(EmulatorError) as caught:
        module.launch(kernel, 1, 8, [whole[16:24], out, np.int32(8)], 8 * out.itemsize)
    said = " ".join(str(caught.value).splitlines()[:4])
    wanted = OUTSIDE["static_read" if "template" in kernel else kernel][1]
    assert re.search(wanted, said), said


def test_the_sanitizer_shares_arrays_that_overlap(checked):
    for module in (kernels("float32"), kernels("float32", sanitize=True)):
        memory = np.arange(10, dtype=np.float32)
        module.launch("add", 1, 8, [memory[:8], memory[1:9], memory[2:], np.int32(8)])
        np.testing.assert_array_equal(memory, [0, 1, 1, 2, 3, 5, 8, 13, 21, 34])


STUCK = r"""extern "C" __global__ void ended(int n) {
    if (threadIdx.x >= n) return;
    __syncthreads();
}
extern "C" __global__ void branch(int n) {
    if (threadIdx.x < n) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
extern "C" __global__ void loop(int n) {
    for (int k = 0; k < n + threadIdx.x / 32; k++) __syncthreads();
}
extern "C" __global__ void warp(int n) {
    if (threadIdx.x < n) __shfl_sync(0xffffffff, n, 0);
    __syncthreads();
}
extern "C" __global__ void masks(int n) {
    __ballot_sync(threadIdx.x % 32 < n ? 0xffffffff : 0xfffffffe, n);
}
extern "C" __global__ void unnamed(int n) {
    __syncwarp(~(1u << n));
}
extern "C" __global__ void right(int n) {
    if (threadIdx.x >= n) return;
    __shfl_sync(0xffffffff, n, 0);
}
"""
SAID = {
    "ended": r"the same __syncthreads: thread \(0, 0, 0\) waits in .* at kernel.cu:3, thread \(5, 0, 0\) has ended",
    "branch": r"\(0, 0, 0\) waits in __syncthreads at kernel.cu:7, thread \(5, 0, 0\) waits in .* at kernel.cu:9",
    "loop": r"thread \(32, 0, 0\) waits in __syncthreads at kernel.cu:13, thread \(0, 0, 0\) has ended",
    "warp": r"thread \(0, 0, 0\) waits in __shfl_sync at kernel.cu:16, thread \(5, 0, 0\) waits in __syncthreads",
    "masks": "masks are 0xffffffff and 0xfffffffe",
    "unnamed": "mask 0xffffffdf of __syncwarp at kernel.cu:23 does not name the calling lane 5",
}


@each_order
@pytest.mark.parametrize("kernel", SAID)
def test_a_barrier_that_not_all_threads_reach_is_an_error(kernel, order):
    module = compile_cuda(STUCK)
    with pytest.raises(EmulatorError, match=SAID[kernel]):
        module.launch(kernel, 2, 64, [np.int32(5)], 0, *order)
    module.launch("right", 2, 64, [np.int32(5)], 0, *order)  # it goes on; lanes that have ended are not waited for


CRASHES = r"""
extern "C" __global__ void wild(int *p) { p[3 * threadIdx.x] = 1; }
__device__ int deep(int n) {
    volatile char large[1000];
    large[n % 1000] = n;
    return n > 0 ? deep(n - 1) + large[n % 1000] : 0;
}
extern "C" __global__ void recursion(int *p) { *p = deep(*p); }
extern "C" __global__ void trap(int *p) { if (threadIdx.x == 2) __trap(); }
extern "C" __global__ void claim(int *p) { assert(*p == 1000); assert(threadIdx.x < 3); }
extern "C" __global__ void greedy(int *p) {
    __shared__ double a[6000], b[145];
    a[threadIdx.x] = b[0];
}
extern "C" __global__ void fine(int *p) { *p = 7; }
"""
CRASHED = {
    "wild": r"kernel wild, block \(0, 0, 0\), thread \(0, 0, 0\): Segmentation fault at 0x40",
    "recursion": "needs more than the 192 KiB of stack",
    "trap": r"thread \(2, 0, 0\): __trap",
    "claim": r"thread \(3, 0, 0\): kernel.cu:\d+: assert\(threadIdx.x < 3\)",
    "greedy": "more than 49152 bytes of static shared memory",
}


@pytest.mark.parametrize("kernel", CRASHED)
def test_what_would_end_the_process_is_an_error(kernel):
    module, n = compile_cuda(CRASHES), np.full(1, 1000, np.int32)
    with pytest.raises(EmulatorError, match=CRASHED[kernel]):
        module.launch(kernel, 1, 4, [ctypes.c_void_p(64) if kernel == "wild" else n])
    module.launch("fine", 1, 4, [n])
    assert n == 7


def test_an_array_that_is_read_only_must_not_be_written(checked):
    for sanitize in (False, True):
        a, out = np.ones(5, np.float32), np.zeros(5, np.float32)
        out.flags.writeable = False
        with pytest.raises(EmulatorError, match="kernel add has written to a read-only array of argument 2"):
            kernels("float32", sanitize=sanitize).launch("add", 1, 8, [a, a, out, np.int32(5)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "subtract"}, "no kernel subtract, only add, gaussian"),
        ({"args": [None, None, None]}, "add takes 4 arguments, got 3"),
        ({"args": [None, None, None, np.int64(0)]}, "argument 3 of kernel add has 4 bytes, got 8"),
        ({"block": (1, 1025)}, r"a block of \(1, 1025, 1\) threads; it may have 1 to 1024"),
        ({"block": (1, 1, 65)}, "and 64 in z"),
        ({"block": 0}, r"a block of \(0, 1, 1\) threads"),
        ({"grid": (1, 65536)}, r"a grid of \(1, 65536, 1\) blocks"),
        ({"grid": 0}, r"a grid of \(0, 1, 1\) blocks"),
        ({"shared_bytes": 232449}, "232449 bytes of dynamic shared memory; there are 232448"),
        ({"kernel": "gaussian", "args": [None] * 4 + [np.int32(0)] * 2, "block": 65}, "it may have 1 to 64"),
    ],
)
def test_calls_that_a_gpu_refuses(change, message):
    call = {"kernel": "add", "grid": 1, "block": 32, "args": [None, None, None, np.int32(0)], **change}
    with pytest.raises(EmulatorError, match=message):
        kernels("float32").launch(**call)


def test_a_number_of_python_is_no_argument():
    with pytest.raises(TypeError, match="a value of NumPy or ctypes"):
        kernels("float32").launch("add", 1, 1, [None, None, None, 0])


def test_sources_that_do_not_compile():
    with pytest.raises(EmulatorError, match="kernel.cu:2:.*nowhere"):
        compile_cuda('extern "C" __global__ void k(int *p) {\n    *p = nowhere;\n}')
    with pytest.raises(EmulatorError, match="no kernel, or only templates"):
        compile_cuda("template <class T> __global__ void k(T *p) {}")


# ---- how sources become modules ----


def test_files_are_included_as_they_are(tmp_path):
    (tmp_path / "ops.cuh").write_text(
        "#pragma once\n__device__ float v_exp2(float a) {\n    float out;\n"
        '    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(a));\n    return out;\n}\n'
        '#define KERNEL(name, T) extern "C" __global__ void name(T *p) { \\\n'
        "    extern __shared__ T s[]; s[threadIdx.x] = p[threadIdx.x]; p[threadIdx.x] = v_exp2(s[threadIdx.x]); }\n"
    )
    module = compile_cuda('#include "ops.cuh"\nKERNEL(one, float)\nKERNEL(two, double)', include_dirs=[tmp_path])
    assert module.kernels == ("one", "two")
    for kernel, dtype in zip(module.kernels, TYPES):
        a = np.arange(5, dtype=dtype)
        module.launch(kernel, 1, 5, [a], 5 * a.itemsize)
        np.testing.assert_array_equal(a, 2.0 ** np.arange(5))


def test_a_source_is_compiled_once(monkeypatch):
    source = (
        f'extern "C" __global__ void k() {{}} // {np.random.default_rng().integers(2**62)}'  # comments do not count
    )
    commands, run = [], emulator._run
    monkeypatch.setattr(emulator, "_run", lambda command, text: commands.append(command) or run(command, text))
    assert compile_cuda(source) is compile_cuda(source)
    emulator._module.cache_clear()
    before = len(commands)
    assert compile_cuda(source).kernels == ("k",)
    assert len(commands) == before + 1 and "-E" in commands[-1]


def test_modules_share_nothing():
    source = """
__device__ int count = START;
template <int N> __device__ int &counter() { static int c = N; return c; }
extern "C" __global__ void next(int *out) { out[0] = ++count, out[1] = ++counter<5>(); }"""
    for start in (0, 100):
        out = np.empty(2, np.int32)
        compile_cuda(source, defines=[f"START={start}"]).launch("next", 1, 1, [out])
        np.testing.assert_array_equal(out - start, [1, 6 - start])


@each_order
@pytest.mark.parametrize("kernel", PROBLEMS)
def test_with_the_switch_of_the_system(kernel, order):
    assert right(kernels("float32", options=["-DEMULATOR_UCONTEXT"]), kernel, "float32", order)
