"""Contexts that are always put back, errors that say what to do, and processes that end in peace."""

import threading

import pytest
from cuda_emulator import driver as emulated

from kernelops.errors import BackendError
from kernelops.gpu.device import device

pytestmark = pytest.mark.usefixtures("only_emulated")
TROUBLE = """
extern "C" __global__ void trouble(double *x, long long k) { x[k] = 1; }
"""
BARRIER = """
extern "C" __global__ void half() { if (threadIdx.x) __syncthreads(); else while (!threadIdx.x) { __syncwarp(); } }
"""
PEACE = (0, "", "")  # what a process that ends without trouble leaves: its status, its output, its errors


def depth():
    return emulated.count("depth")


def back(gpu):
    there = gpu.allocate(8)
    return gpu.download(there.pointer, (1,), float)


def module(gpu):
    """PyCUDA cannot read what it failed of, as there is no log; the driver is asked again."""
    try:
        emulated.plant("cuModuleLoadData", 999)
        gpu.function(TROUBLE + "//one")
    finally:
        emulated.plant("cuModuleLoadData", 0)


def launched(gpu):
    there = gpu.allocate(8)
    gpu.launch(gpu.function(TROUBLE), (1,), (1,), [there.pointer, 0])
    gpu.synchronise()


# ---- the stack of contexts ----


def test_a_context_is_current_inside_and_not_after(gpu):
    from pycuda.driver import Context

    assert depth() == 0 and Context.get_current() is None
    with gpu.current():
        assert depth() == 1 and Context.get_device().name() == gpu.name
    assert depth() == 0 and Context.get_current() is None


def test_inside_itself_and_inside_another(gpu):
    from pycuda.driver import Context

    other = device(1)
    pushed = emulated.count("pushed")
    with gpu.current(), gpu.current():
        assert emulated.count("pushed") == pushed + 1, "the second costs nothing"
        with other.current(), gpu.current():
            assert Context.get_device().name() == gpu.name
            with other.current():
                assert Context.get_device().name() == other.name
            assert Context.get_device().name() == gpu.name
        assert Context.get_device().name() == gpu.name
    assert depth() == 0


class Mishap(BaseException):
    """Not even an Exception, as KeyboardInterrupt is not."""


def test_exceptions_put_it_back(gpu):
    other = device(1)
    for nested in (gpu.current, other.current):
        with pytest.raises(Mishap), gpu.current():
            try:
                with nested():
                    raise ZeroDivisionError
            except ZeroDivisionError:
                assert depth() == 1
            raise Mishap
        assert depth() == 0


@pytest.mark.parametrize(
    "call, asked",
    [
        ("cuCtxPushCurrent_v2", lambda gpu: gpu.synchronise()),
        ("cuCtxSynchronize", lambda gpu: gpu.synchronise()),
        ("cuMemAlloc_v2", lambda gpu: gpu.allocate(8)),
        ("cuMemcpyHtoD_v2", lambda gpu: gpu.upload(b"12345678")),
        ("cuMemcpyDtoH_v2", back),
        ("cuModuleLoadDataEx", module),
        ("cuModuleGetFunction", lambda gpu: gpu.function(TROUBLE + "//two")),
        ("cuLaunchKernel", launched),
    ],
)
def test_calls_that_fail_put_it_back_and_say_what_failed(gpu, call, asked):
    emulated.plant(call, 999)
    with pytest.raises(BackendError, match=r"GPU 0 \(Emulated GPU 0\), .*cu\w+ failed: unknown error$"):
        asked(gpu)
    assert depth() == 0
    asked(gpu)  # an error that was of one call only


def test_a_buffer_that_cannot_be_freed_is_no_error(gpu):
    buffer = gpu.allocate(8)
    emulated.plant("cuMemFree_v2", 999)
    del buffer
    gpu.synchronise()


def test_many_threads(gpu):
    other, wrong = device(1), []

    def work(seed):
        try:
            for k in range(50):
                one, two = (gpu, other) if (k + seed) % 3 else (other, gpu)
                x = one.upload(bytes(range(8)))
                with one.current(), two.current():
                    y = two.upload(bytes(range(8)))
                if bytes(one.download(x.pointer, (8,), "u1")) != bytes(two.download(y.pointer, (8,), "u1")):
                    wrong.append(k)
                x = y
            if depth():
                wrong.append("depth")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_beside_contexts_that_others_have_made(gpu):
    import pycuda.driver as cuda

    mine = cuda.Device(0).make_context()
    try:
        with gpu.current():
            assert depth() == 1 and cuda.Context.get_current() != mine
        assert cuda.Context.get_current() == mine and depth() == 1
    finally:
        mine.pop()
        mine.detach()


# ---- a context that is lost ----


def lost(where="None"):
    return f"""
gpu = device()
kept = gpu.upload(np.zeros(3))
kernel = gpu.function({TROUBLE!r})
import pycuda.driver as cuda
with gpu.current():
    stream = cuda.Stream(1)
gpu.launch(kernel, (1,), (1,), [kept.pointer, 1000], {where})
said = []
for attempt in (lambda: gpu.synchronise(), lambda: gpu.allocate(8), lambda: gpu.current().__enter__()):
    try:
        attempt()
        said.append("nothing")
    except BackendError as error:
        said.append(str(error))
print("\\n".join(said))
print("depth", emulated.count("depth"))
"""


@pytest.mark.parametrize("where", ["None", "stream.handle"])
@pytest.mark.parametrize("pop_fails", [False, True])
def test_an_illegal_address_in_a_kernel(child, where, pop_fails):
    """Told by a later call; then all calls say so, and the process still ends in peace."""
    script = lost(where)
    if pop_fails:  # PyCUDA's stack keeps the context then, and would abort the process
        script = script.replace("said = []", 'said = []\nemulated.plant("cuCtxPopCurrent_v2", 700, -1)')
    status, said, errors = child(script)
    first, *later, stack = said.splitlines()
    assert first.startswith("GPU 0 (Emulated GPU 0) is lost to this process, start another one (")
    assert "waiting for it: cuCtxSynchronize failed: an illegal memory access was encountered)" in first
    assert later == [first, first]
    assert stack == "depth 0" or pop_fails
    assert status == 0, errors
    assert "The context stack was not empty" not in errors and "Traceback" not in errors


def test_a_pop_that_fails_in_a_thread(child):
    status, said, errors = child("""
import threading
gpu = device()

def work():
    emulated.plant("cuCtxPopCurrent_v2", 700)
    for _ in range(2):
        try:
            with gpu.current():
                print("inside")
        except BackendError as error:
            print(error)

t = threading.Thread(target=work)
t.start()
t.join()
""")
    lost = "GPU 0 (Emulated GPU 0) is lost to this process, start another one (cuCtxPopCurrent failed: an illegal "
    assert status == 0 and "stack was not empty" not in errors
    assert [line.startswith(lost) or line for line in said.splitlines()] == ["inside", True, True]


def test_the_error_inside_goes_before_that_of_the_pop(child):
    status, _, errors = child("""
gpu = device()
emulated.plant("cuCtxPopCurrent_v2", 700)
with gpu.current():
    raise KeyError("mine")
""")
    assert status == 1 and "KeyError: 'mine'\n" in errors and "lost to this process" not in errors


def test_another_gpu_works_on(child):
    script = lost() + "two = device(1); x = two.upload(np.arange(3)); print(two.download(x.pointer, (3,), int))"
    status, said, _ = child(script)
    assert status == 0 and said.splitlines()[-1] == "[0 1 2]"


def test_a_kernel_that_does_not_end_well(child):
    status, said, errors = child(f"""
gpu = device()
x = gpu.allocate(8)
gpu.launch(gpu.function({BARRIER!r}), (1,), (64,), [])
try:
    gpu.download(x.pointer, (1,), float)
except BackendError as error:
    print(error)
""")
    assert status == 0 and "(copying 8 bytes back: cuMemcpyDtoH failed: unspecified launch failure)" in said
    assert "kernel half, block (0, 0, 0)" in errors, "the emulator says more"


# ---- what is missing ----


def fails(child, script, prelude, **environment):
    """The message of the BackendError that the script ends with."""
    code = f"""
import sys
from kernelops.errors import BackendError
{script}
try:
    from kernelops.gpu.device import device
    device()
except BackendError as error:
    print(error)
"""
    status, said, errors = child(code, prelude, **environment)
    assert (status, errors) == (0, "")
    return said.strip()


def test_no_driver(child):
    said = fails(child, "", "")
    assert said.startswith("the NVIDIA driver is missing: its library libcuda.so.1 cannot be loaded (libcuda.so.1: ")
    assert "install the driver, and see by nvidia-smi whether it works" in said


HOOK = """
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {hidden!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hook())
"""


def test_no_pycuda(child):
    said = fails(child, HOOK.format(hidden="pycuda"), "")
    assert said == 'the GPU needs PyCUDA, which is not installed: pip install "kernelops[cuda]"'


LOADED = "from cuda_emulator import driver as emulated\nemulated.load()\n"


def test_a_pycuda_that_lacks_something(child):
    said = fails(child, HOOK.format(hidden="pycuda._driver").replace('.partition(".")[0]', ""), LOADED)
    assert said == (
        "PyCUDA cannot be imported (No module named 'pycuda._driver'):"
        ' pip install --force-reinstall "kernelops[cuda]"'
    )


def test_no_gpu(child):
    said = fails(child, "", LOADED, EMULATED_CUDA_DEVICES="0", CUDA_VISIBLE_DEVICES="5")
    assert said == (
        "CUDA does not start (cuInit failed: no CUDA-capable device is detected);"
        " nvidia-smi lists the GPUs that CUDA_VISIBLE_DEVICES=5 allows and says what is wrong"
    )


def test_one_gpu(child):
    status, said, _ = child(
        "try:\n    device(1)\nexcept BackendError as error:\n    print(error)", EMULATED_CUDA_DEVICES="1"
    )
    assert (status, said.strip()) == (0, "device: wanted the number of a GPU, got 1; there are: 0")


# ---- forks and ends ----


def test_a_forked_process_is_told(child):
    status, said, errors = child("""
import os
from kernelops.gpu import compilers
gpu = device()
kept = gpu.upload(np.arange(3.0))
for attempt in (device, gpu.synchronise, lambda: gpu.allocate(8), lambda: gpu.current().__enter__()):
    child = os.fork()
    if not child:
        try:
            attempt()
        except BackendError as error:
            print(str(error).partition(", and")[0], flush=True)
            del gpu, kept, attempt
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print(gpu.download(kept.pointer, (3,), float))
""")
    assert (status, errors) == (0, "")
    assert said.splitlines() == ["CUDA was started before this process was forked"] * 4 + ["[0. 1. 2.]"]


def test_a_process_that_forks_before_it_asks(child):
    status, said, errors = child("""
import os
if not os.fork():
    print(device().name, flush=True)
    os._exit(0)
os.wait()
print(device().name)
""")
    assert (status, said.splitlines(), errors) == (0, ["Emulated GPU 0"] * 2, "")


def test_workers_of_a_forked_process_of_which_pycuda_knows(child):
    """What torch, or PyCUDA itself, has started before the fork is told by the driver."""
    status, said, errors = child("""
import os
import pycuda.driver
pycuda.driver.init()
if not os.fork():
    try:
        device()
    except BackendError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
""")
    assert (status, errors) == (0, "")
    assert said.startswith("CUDA does not start (cuInit failed: initialization error); a process that was forked")


ENDS = {
    "after work": "",
    "with buffers alive": "import builtins; builtins.kept = kept",
    "with a buffer in a cycle": "kept.append(kept)",
    "inside": "gpu.current().__enter__(); gpu.current().__exit__(None, None, None)",
    "by sys.exit inside": "import sys\nwith gpu.current(): sys.exit(0)",
    "started in a thread": "",
    "after a thread": "import threading; threading.Thread(target=lambda: kept.append(gpu.upload(np.ones(3)))).start()",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_process_ends_in_peace(child, how):
    begin = "gpu = device()\n"
    if how == "started in a thread":
        begin = "import threading\nt = threading.Thread(target=device)\nt.start()\nt.join()\n" + begin
    kernel = f"kernel = gpu.function({TROUBLE!r})\nkept = [gpu.upload(np.zeros(3))]\n"
    launch = "gpu.launch(kernel, (1,), (1,), [kept[0].pointer, 2])\ngpu.synchronise()\n"
    assert child(begin + kernel + launch + ENDS[how]) == PEACE


def test_nothing_is_freed_when_the_process_ends(child):
    assert (
        child("""
import builtins
gpu = device()
builtins.kept = gpu.upload(np.ones(3))
gpu.library.status = print
""")
        == PEACE
    )


def test_a_process_that_is_forked_inside(child):
    """It has inherited PyCUDA's stack with something on it."""
    status, said, errors = child("""
import os, sys
gpu = device()
with gpu.current():
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert (status, said) == (0, "0\n") and "stack was not empty" not in errors


def test_an_error_that_nobody_catches_ends_with_a_traceback_only(child):
    status, said, errors = child("gpu = device()\nwith gpu.current():\n    raise KeyError('mine')")
    assert status == 1 and said == "" and errors.rstrip().endswith("KeyError: 'mine'") and "PyCUDA" not in errors


def test_interrupts_leave_nothing_behind(child):
    """Between a push and what follows it an interrupt comes unseen; PyCUDA aborts a process that ends like that."""
    status, said, errors = child("""
import random, signal

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

gpu, two = device(), device(1)
signal.signal(signal.SIGALRM, interrupt)
left = 0
for k in range(300):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 3e-4))
            while True:
                with gpu.current(), two.current():
                    pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        left += emulated.count("depth")
    for each in (gpu, two):
        x = each.upload(np.arange(3))
        assert each.download(x.pointer, (3,), int).tolist() == [0, 1, 2]
print(left > 0)
""")
    assert (status, errors) == (0, "") and said == "True\n"
