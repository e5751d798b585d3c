"""A GPU's memory, kernels and streams, by PyCUDA upon an emulated driver."""

import gc
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import driver as emulated

from kernelops.errors import ArgumentError, BackendError

pytestmark = pytest.mark.usefixtures("only_emulated")
ADD = """
extern "C" __global__ void __launch_bounds__(64, 1) add(const double *x, double *y, long long n, long long k) {
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = x[i] + k;
}
"""
WORDS = """
extern "C" __global__ void words(long long *out, long long a, double *pointer, long long b) {
    out[0] = a, out[1] = (long long)pointer, out[2] = b;
}
"""
SHARED = """
extern "C" __global__ void shared(long long *out, long long n) {
    extern __shared__ long long all[];
    for (long long k = threadIdx.x; k < n; k += blockDim.x) all[k] = k;
    __syncthreads();
    if (!threadIdx.x) for (long long k = out[0] = 0; k < n; k++) out[0] += all[k];
}
"""


@pytest.fixture
def stream(gpu):
    """The handle of a stream that does nothing before it is waited for, as torch's own do not wait for the default."""
    cuda = pytest.importorskip("pycuda.driver")
    with gpu.current():
        made = cuda.Stream(1)
    yield made.handle
    with gpu.current():
        del made
        gc.collect()


def values(gpu, pointer, n=5):
    return gpu.download(pointer, (n,), "float64")


# ---- what it is ----


def test_what_a_device_says_of_itself(gpu):
    assert (gpu.number, gpu.name, gpu.arch) == (0, "Emulated GPU 0", "sm_90")
    assert (gpu.multiprocessors, gpu.shared_bytes, gpu.memory) == (3, 227 << 10, 1 << 30)
    assert repr(gpu) == "GPU 0 (Emulated GPU 0)"


def test_one_device_for_a_number(gpu):
    from kernelops.gpu.device import device

    assert device() is device(0) is device(np.int64(0)) is gpu
    assert device(1) is not gpu and device(1) is device(1) and device(1).number == 1
    assert emulated.count("retained") == 2, "primary contexts are retained once"


@pytest.mark.parametrize("number", [2, -2, 99])
def test_a_number_that_no_gpu_has(gpu, number):
    from kernelops.gpu.device import device

    with pytest.raises(BackendError, match=f"device: wanted the number of a GPU, got {number}; there are: 0, 1"):
        device(number)


def test_the_device_that_torch_uses(gpu, monkeypatch):
    from kernelops.gpu.device import device

    torch = pytest.importorskip("torch")
    assert device().number == 0, "torch uses no GPU"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device().number == 1 and device(0).number == 0


# ---- memory ----


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5), (0,), (3, 0, 2)])
def test_there_and_back(gpu, stream, dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for where in (None, 0, stream):
        there = gpu.upload(array, where)
        assert there.nbytes == array.nbytes and there.pointer % 256 == 0 and there.pointer
        back = gpu.download(there.pointer, shape, dtype, where)
        assert back.dtype == array.dtype and back.shape == shape and np.array_equal(back, array)


def test_arrays_of_any_layout(gpu):
    a = np.arange(24.0).reshape(4, 6)
    a.flags.writeable = False
    for view in (a, a.T, a[::2, ::-1], np.asfortranarray(a), np.broadcast_to(a[0], (3, 6))):
        there = gpu.upload(view)
        assert np.array_equal(gpu.download(there.pointer, view.shape, view.dtype), view)


def test_a_copy_is_taken_at_once(gpu, stream):
    a = np.ones(1000)
    there = gpu.upload(a, stream)
    a[:] = 2
    assert np.array_equal(gpu.download(there.pointer, a.shape, a.dtype, stream), np.ones(1000))


def test_buffers_are_freed_when_they_are_collected(gpu):
    gc.collect()
    before = emulated.count("allocations")
    kept = [gpu.allocate(1000) for _ in range(5)]
    assert emulated.count("allocations") == before + 5
    assert repr(kept[0]) == f"Buffer(1000 bytes at {kept[0].pointer:#x} of GPU 0 (Emulated GPU 0))"
    del kept[1:]
    assert emulated.count("allocations") == before + 1
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert emulated.count("allocations") == before, "freed in another thread"


def test_a_buffer_in_a_cycle_is_freed_in_the_middle_of_other_work(gpu):
    from kernelops.gpu.device import device

    before = emulated.count("allocations")
    gc.collect()
    cycle = [device(1).allocate(100)]
    cycle.append(cycle)
    with gpu.current():
        del cycle
        gc.collect()
        assert emulated.count("depth") == 1
    assert emulated.count("allocations") == before


def test_more_memory_than_there_is(gpu):
    kept = gpu.allocate(600 << 20)
    with pytest.raises(BackendError) as caught:
        gpu.allocate(500 << 20)
    free = int(re.search(r"(\d+) bytes\) are free", str(caught.value))[1])
    assert 400 << 20 < free <= 424 << 20  # what is kept for later calls takes some
    assert str(caught.value) == (
        "GPU 0 (Emulated GPU 0) has too little memory: wanted 500.0 MiB (524288000 bytes);"
        f" of 1.0 GiB (1073741824 bytes), {free / 2**20:.1f} MiB ({free} bytes) are free"
    )
    del kept
    assert gpu.allocate(500 << 20).nbytes == 500 << 20


def test_memory_that_only_the_collector_can_free(gpu):
    cycle = [gpu.allocate(600 << 20)]
    cycle.append(cycle)
    del cycle
    assert gpu.allocate(600 << 20).nbytes == 600 << 20


def test_torch_gives_back_what_it_keeps_in_reserve(gpu, monkeypatch):
    torch = pytest.importorskip("torch")
    reserve = [gpu.allocate(600 << 20)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", reserve.clear)
    assert gpu.allocate(600 << 20).nbytes == 600 << 20


# ---- kernels ----


def test_a_launch(gpu):
    add, x, y = gpu.function(ADD), gpu.upload(np.arange(5.0)), gpu.allocate(40)
    gpu.launch(add, (2,), (32, 1, 1), [x.pointer, y.pointer, 5, -3])
    assert np.array_equal(values(gpu, y.pointer), np.arange(5.0) - 3)
    assert add.name == "add" and repr(add) == "Function(add)"


@pytest.mark.parametrize("foreign", [False, True])
def test_words_arrive_whole(gpu, stream, foreign):
    where = stream if foreign else None
    words, out = gpu.function(WORDS), gpu.allocate(24)
    given = [-(2**63) + 1, 2**47 - 256, 2**62 + 3]
    for numbers in (given, [np.int64(n) for n in given]):
        gpu.launch(words, (1,), (1,), [out.pointer, *numbers], where)
        assert gpu.download(out.pointer, (3,), np.int64, where).tolist() == given


def test_a_kernel_is_loaded_once(gpu):
    first = gpu.function(ADD)
    before = emulated.count("modules")
    assert gpu.function(str(ADD)) is first and emulated.count("modules") == before
    found = []
    threads = [threading.Thread(target=lambda: found.append(gpu.function(WORDS + "//"))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({id(f) for f in found}) == 1 and emulated.count("modules") == before + 1


def test_many_kernels_share_the_stacks_of_their_threads(gpu):
    """The emulator's: a process may have some 65,000 areas of memory, and a stack is two."""

    def areas():
        return len(Path("/proc/self/maps").read_text().splitlines())

    x, counts = gpu.upload(np.zeros(5)), []
    for k in range(3):
        gpu.launch(gpu.function(f"{ADD}//stacks {k}"), (1,), (64,), [x.pointer, x.pointer, 5, 1])
        counts.append(areas())
    assert np.array_equal(values(gpu, x.pointer), np.full(5, 3.0)) and counts[2] - counts[0] < 64


def test_each_device_has_kernels_of_its_own(gpu):
    from kernelops.gpu.device import device

    for number in (0, 1, 0):
        there = device(number)
        x = there.upload(np.arange(5.0))
        there.launch(there.function(ADD), (1,), (5,), [x.pointer, x.pointer, 5, 1])
        assert np.array_equal(values(there, x.pointer), np.arange(5.0) + 1)


def test_a_text_of_several_kernels_needs_a_name(gpu):
    with pytest.raises(ArgumentError, match=r"name: wanted, where a text has 2 kernels \(add, words\)"):
        gpu.function(ADD + WORDS)
    assert gpu.function(ADD + WORDS, "words").name == "words"
    with pytest.raises(BackendError, match="loading kernel other: cuModuleGetFunction failed: named symbol not found"):
        gpu.function(ADD + WORDS, "other")


@pytest.mark.parametrize("foreign", [False, True])
def test_shared_memory_beyond_what_a_block_has_unasked(gpu, stream, foreign):
    where = stream if foreign else None
    kernel, out = gpu.function(SHARED), gpu.allocate(8)
    for n in (100, 10_000, 6144, 29_000):
        gpu.launch(kernel, (1,), (64,), [out.pointer, n], where, shared=8 * n)
        assert gpu.download(out.pointer, (1,), np.int64, where)[0] == n * (n - 1) // 2


@pytest.mark.parametrize(
    "grid, block, why",
    [
        ((1,), (65, 1, 1), "too many resources requested for launch"),  # more than the kernel says
        ((1,), (2000, 1, 1), "invalid argument"),
        ((1,), (0, 1, 1), "invalid argument"),
        ((0,), (32, 1, 1), "invalid argument"),
        ((1, 70000), (32, 1, 1), "invalid argument"),
    ],
)
def test_a_launch_that_cannot_be(gpu, grid, block, why):
    x = gpu.allocate(8)
    with pytest.raises(BackendError, match=rf"GPU 0 .*, launching kernel add: cuLaunchKernel failed: {why}$"):
        gpu.launch(gpu.function(ADD), grid, block, [x.pointer, x.pointer, 1, 1])
    gpu.synchronise()


def test_a_wrong_number_of_words(gpu):
    x = gpu.allocate(8)
    with pytest.raises(BackendError, match="GPU 0 .*, launching kernel add: cuLaunchKernel failed: invalid argument"):
        gpu.launch(gpu.function(ADD), (1,), (1,), [x.pointer, x.pointer, 1])
    gpu.synchronise()


# ---- streams ----


def test_work_in_a_stream_is_done_in_its_order(gpu, stream):
    before = emulated.count("launches in other streams")
    add, x = gpu.function(ADD), gpu.upload(np.zeros(5), stream)
    for k in range(4):
        gpu.launch(add, (1,), (5,), [x.pointer, x.pointer, 5, k], stream)
    assert np.array_equal(values(gpu, x.pointer), np.zeros(5)), "what is not waited for is not there"
    assert np.array_equal(gpu.download(x.pointer, (5,), float, stream), np.full(5, 6.0))
    assert emulated.count("launches in other streams") == before + 4


@pytest.mark.parametrize("whole", [True, False])
def test_waiting(gpu, stream, whole):
    add, x = gpu.function(ADD), gpu.upload(np.zeros(5), stream)
    gpu.launch(add, (1,), (5,), [x.pointer, x.pointer, 5, 1], stream)
    gpu.synchronise(None if whole else stream)
    assert np.array_equal(values(gpu, x.pointer), np.ones(5))


def test_the_same_kernel_in_both_kinds_of_streams(gpu, stream):
    add, x = gpu.function(ADD + "//both"), gpu.upload(np.zeros(5), stream)
    for where in (None, stream, 0, stream):
        gpu.launch(add, (1,), (5,), [x.pointer, x.pointer, 5, 1], where)
        gpu.synchronise(where)
    assert np.array_equal(values(gpu, x.pointer), np.full(5, 4.0))


def test_a_stream_that_is_none(gpu):
    with pytest.raises(BackendError, match="launching kernel add: cuLaunchKernel failed: invalid resource handle"):
        x = gpu.allocate(8)
        gpu.launch(gpu.function(ADD), (1,), (1,), [x.pointer, x.pointer, 1, 1], 1 << 20)


# ---- PyCUDA beside it ----


def test_arrays_of_pycuda(gpu):
    with gpu.current():
        gpuarray = pytest.importorskip("pycuda.gpuarray")
        x = gpuarray.to_gpu(np.arange(5.0))
        gpu.launch(gpu.function(ADD), (1,), (5,), [int(x.gpudata), int(x.gpudata), 5, 1])
        assert np.array_equal(x.get(), np.arange(5.0) + 1)
        assert x.__cuda_array_interface__["data"][0] == int(x.gpudata)
        del x


def test_events_of_pycuda(gpu, stream):
    cuda = pytest.importorskip("pycuda.driver")
    with gpu.current():
        first, last = cuda.Event(), cuda.Event()
        first.record()
        x = gpu.upload(np.zeros(5))
        last.record().synchronize()
        assert first.time_till(last) >= 0 and last.query()
        other, memory = cuda.Stream(), cuda.mem_alloc(40)
        cuda.memcpy_htod_async(memory, np.ones(5), other)
        other.wait_for_event(last)
        back = np.empty(5)
        cuda.memcpy_dtoh_async(back, memory, other)
        other.synchronize()
        assert back.tolist() == [1] * 5
        cuda.memcpy_dtod(memory, x.pointer, 40)
        cuda.memcpy_dtoh(back, memory)
        assert back.tolist() == [0] * 5
        del first, last, other, memory
