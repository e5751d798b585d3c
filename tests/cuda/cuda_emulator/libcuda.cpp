/* libcuda.so.1 on a CPU: what PyCUDA calls of the CUDA driver, with kernels that the emulator has compiled.
 *
 * Memory of the device is memory of the process, with pages around it that nobody may touch; at first it holds bytes of
 * ones, NaN, and what was freed is never used again. The default stream works at once. Any other stream works as late
 * as it may: when somebody waits for it, for an event in it, or for the device, when memory is freed, and, unless it is
 * a non-blocking one, before the default stream does anything. So what is not waited for is not there.
 *
 * As in the driver, an error in a kernel is told by a later call, and by every later call; a process that was forked
 * gets nothing but errors; a module's image is an ELF file whose size nobody says. What is not written here answers
 * "not supported" (driver.py makes that).
 *
 * Environment: EMULATED_CUDA_DEVICES, how many there are (2); EMULATED_CUDA_MEMORY, bytes of each (2^30).
 */
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default"))) int
typedef uint64_t Pointer;

enum {
    FINE = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, DEINITIALIZED = 4, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, INVALID_HANDLE = 400,
    NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
};

static const std::map<int, std::pair<const char *, const char *>> TEXTS = {
    {FINE, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {DEINITIALIZED, {"CUDA_ERROR_DEINITIALIZED", "driver shutting down"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {NO_BINARY_FOR_GPU, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {OUT_OF_RESOURCES, {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
    {MISALIGNED_ADDRESS, {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"}},
    {LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {NOT_SUPPORTED, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
};

struct Context {
    int device;
    bool primary;
    int users; /* who have retained it */
    int lost;  /* the error that has ended it */
};

struct Stream {
    Context *context;
    bool blocking;
    std::deque<std::function<int()>> todo;
    uint64_t done; /* how much of its work ever */
};

struct Event {
    Stream *stream;
    uint64_t position; /* of the stream's work, that it stands behind */
    double when;
};

struct Block {
    Context *context;
    char *pages; /* the first of them is one that nobody may touch */
    size_t bytes, all;
};

struct Module {
    Context *context;
    int (*find)(const char *, int *);
    const char *(*launch)(int, const unsigned *, const unsigned *, size_t, void *const *, const size_t *, int, int,
                          uint64_t);
};

struct Function {
    Module *module;
    int number, parameters, dynamic;
};

/* everything; never destroyed, for calls may come while the process ends */
static struct State {
    std::recursive_mutex lock;
    int process = 0; /* that has called cuInit */
    bool ended = false;
    std::vector<Context *> primary;
    std::vector<size_t> taken; /* bytes of each device */
    std::map<Pointer, Block> blocks;
    std::set<Stream *> streams;
    std::map<std::string, long> counts;
    std::map<std::string, std::pair<int, int>> planted; /* by call: how many go well, then this error */
    std::string said;
} &all = *new State;

static thread_local std::vector<Context *> stack;

__attribute__((destructor)) static void end() { all.ended = true; }

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}
static int device_count() { return setting("EMULATED_CUDA_DEVICES", 2); }
static size_t device_bytes() { return setting("EMULATED_CUDA_MEMORY", 1L << 30); }

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static void push(Context *context) {
    stack.push_back(context);
    all.counts["pushed"]++;
}
static void pop() {
    stack.pop_back();
    all.counts["popped"]++;
}

/* what each call begins with */
struct Call {
    std::lock_guard<std::recursive_mutex> guard;
    int failed = FINE;
    Call(const char *name, bool needs_context) : guard(all.lock) {
        auto found = all.planted.find(name);
        if (all.ended) failed = DEINITIALIZED;
        else if (all.process != getpid()) failed = NOT_INITIALIZED;
        else if (found != all.planted.end() && (found->second.first < 0 || found->second.first-- == 0)) {
            failed = found->second.second;
            if (found->second.first >= -1) all.planted.erase(found);
        } else if (needs_context && stack.empty()) failed = INVALID_CONTEXT;
        else if (needs_context) failed = stack.back()->lost;
    }
};
#define ENTER(needs_context)                                                                                           \
    Call call(__func__, needs_context);                                                                                \
    if (call.failed) return call.failed
#define IN_CONTEXT                                                                                                     \
    ENTER(true);                                                                                                       \
    Context *const here = stack.back();                                                                                \
    (void)here

/* ---- for tests: how often, and what shall fail ---- */

extern "C" __attribute__((visibility("default"))) long emulated_count(const char *what) {
    std::lock_guard<std::recursive_mutex> guard(all.lock);
    if (!strcmp(what, "depth")) return stack.size();
    if (!strcmp(what, "allocations")) return all.blocks.size();
    return all.counts[what];
}

/* the call of this name gives an error: once, after so many that go well, or from now on, where that is negative */
API emulated_plant(const char *name, int error, int after) {
    std::lock_guard<std::recursive_mutex> guard(all.lock);
    all.planted[name] = {after < 0 ? -2 : after, error};
    return FINE;
}

/* what the emulator has said of the last kernel that failed */
extern "C" __attribute__((visibility("default"))) const char *emulated_said() { return all.said.c_str(); }

/* ---- errors, devices ---- */

API cuGetErrorString(int error, const char **text) {
    auto found = TEXTS.find(error);
    *text = found == TEXTS.end() ? "unknown error" : found->second.second;
    return FINE;
}
API cuGetErrorName(int error, const char **text) {
    auto found = TEXTS.find(error);
    *text = found == TEXTS.end() ? "CUDA_ERROR_UNKNOWN" : found->second.first;
    return FINE;
}
API cuInit(unsigned) {
    std::lock_guard<std::recursive_mutex> guard(all.lock);
    if (all.process && all.process != getpid()) return NOT_INITIALIZED;
    if (device_count() < 1) return NO_DEVICE;
    all.process = getpid();
    all.primary.resize(device_count());
    all.taken.resize(device_count());
    return FINE;
}
API cuDriverGetVersion(int *version) {
    *version = 13000;
    return FINE;
}
API cuDeviceGetCount(int *count) {
    ENTER(false);
    *count = device_count();
    return FINE;
}
API cuDeviceGet(int *device, int number) {
    ENTER(false);
    *device = number;
    return number >= 0 && number < device_count() ? FINE : INVALID_DEVICE;
}
API cuDeviceGetName(char *name, int bytes, int device) {
    ENTER(false);
    snprintf(name, bytes, "Emulated GPU %d", device);
    return FINE;
}
API cuDeviceGetPCIBusId(char *name, int bytes, int device) {
    ENTER(false);
    snprintf(name, bytes, "0000:%02x:00.0", device + 1);
    return FINE;
}
API cuDeviceTotalMem_v2(size_t *bytes, int) {
    ENTER(false);
    *bytes = device_bytes();
    return FINE;
}
API cuDeviceComputeCapability(int *major, int *minor, int) {
    ENTER(false);
    *major = 9, *minor = 0;
    return FINE;
}
API cuDeviceGetAttribute(int *value, int attribute, int) {
    ENTER(false);
    static const std::map<int, int> values = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, /* blocks and grids */
        {8, 48 << 10}, {9, 64 << 10}, {10, 32}, {12, 65536}, {13, 1980000}, {16, 3},       /* 16: multiprocessors */
        {39, 2048}, {40, 3}, {41, 1}, {75, 9}, {76, 0}, {81, 228 << 10}, {82, 65536}, {97, 227 << 10},
    };
    auto found = values.find(attribute);
    *value = found == values.end() ? 0 : found->second;
    return FINE;
}

/* ---- contexts ---- */

API cuDevicePrimaryCtxRetain(Context **context, int device) {
    ENTER(false);
    if (device < 0 || device >= device_count()) return INVALID_DEVICE;
    if (!all.primary[device]) all.primary[device] = new Context{device, true, 0, FINE};
    *context = all.primary[device];
    (*context)->users++;
    all.counts["retained"]++;
    return FINE;
}
API cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER(false);
    if (!all.primary[device] || !all.primary[device]->users) return INVALID_CONTEXT;
    all.primary[device]->users--;
    all.counts["released"]++;
    return FINE;
}
static int make_context(Context **context, int device) {
    if (device < 0 || device >= device_count()) return INVALID_DEVICE;
    push(*context = new Context{device, false, 1, FINE});
    return FINE;
}
API cuCtxCreate_v2(Context **context, unsigned, int device) {
    ENTER(false);
    return make_context(context, device);
}
API cuCtxCreate_v4(Context **context, void *, unsigned, int device) {
    ENTER(false);
    return make_context(context, device);
}
API cuCtxDetach(Context *context) {
    ENTER(false);
    if (context->primary) return INVALID_CONTEXT; /* whoever retained it has to release it */
    if (!stack.empty() && stack.back() == context) pop();
    return FINE;
}
API cuCtxPushCurrent_v2(Context *context) {
    ENTER(false);
    if (!context || !context->users) return INVALID_CONTEXT;
    push(context);
    return FINE;
}
API cuCtxPopCurrent_v2(Context **context) {
    ENTER(false);
    if (stack.empty()) return INVALID_CONTEXT;
    if (context) *context = stack.back();
    pop();
    return FINE;
}
API cuCtxGetCurrent(Context **context) {
    ENTER(false);
    *context = stack.empty() ? nullptr : stack.back();
    return FINE;
}
API cuCtxGetDevice(int *device) {
    IN_CONTEXT;
    *device = here->device;
    return FINE;
}
API cuCtxGetApiVersion(Context *, unsigned *version) {
    ENTER(false);
    *version = 13000;
    return FINE;
}

/* ---- streams and events ---- */

static bool is_default(const Stream *s) { return (uintptr_t)s < 3; } /* 1 and 2 are names of the default streams */

/* lets a stream work, up to a position; an error ends the context */
static void work(Stream *s, uint64_t position) {
    while (s->done < position && !s->todo.empty()) {
        auto next = s->todo.front();
        s->todo.pop_front();
        s->done++;
        int failed = s->context->lost ? FINE : next();
        if (failed) s->context->lost = failed;
    }
}
static void work_all(Context *context, bool only_blocking) {
    auto streams = all.streams;
    for (Stream *s : streams)
        if (s->context == context && (s->blocking || !only_blocking)) work(s, UINT64_MAX);
}

/* something to be done in a stream: in the default one, at once */
static int put(Stream *s, std::function<int()> job) {
    Context *here = stack.back();
    if (is_default(s)) {
        work_all(here, true);
        int failed = here->lost ? FINE : job();
        if (failed == OUT_OF_RESOURCES) return failed; /* nothing has run */
        if (failed) here->lost = failed;
        return FINE;
    }
    if (!all.streams.count(s) || s->context != here) return INVALID_HANDLE;
    s->todo.push_back(job);
    return FINE;
}

API cuCtxSynchronize() {
    IN_CONTEXT;
    work_all(here, false);
    return here->lost;
}
API cuStreamCreate(Stream **s, unsigned flags) {
    IN_CONTEXT;
    *s = new Stream{here, !(flags & 1), {}, 0};
    all.streams.insert(*s);
    return FINE;
}
API cuStreamDestroy_v2(Stream *s) {
    IN_CONTEXT;
    if (!all.streams.count(s)) return INVALID_HANDLE;
    work(s, UINT64_MAX);
    all.streams.erase(s); /* and never another one at this address */
    return FINE;
}
API cuStreamSynchronize(Stream *s) {
    IN_CONTEXT;
    if (is_default(s)) work_all(here, true);
    else if (!all.streams.count(s)) return INVALID_HANDLE;
    else work(s, UINT64_MAX);
    return here->lost;
}
API cuStreamQuery(Stream *s) { return cuStreamSynchronize(s); }
API cuEventCreate(Event **event, unsigned) {
    IN_CONTEXT;
    *event = new Event{nullptr, 0, now()};
    return FINE;
}
API cuEventDestroy_v2(Event *) {
    ENTER(false);
    return FINE;
}
API cuEventRecord(Event *event, Stream *s) {
    IN_CONTEXT;
    int failed = put(s, [=] { return event->when = now(), FINE; });
    event->stream = is_default(s) ? nullptr : s;
    if (event->stream) event->position = s->done + s->todo.size();
    return failed;
}
API cuEventSynchronize(Event *event) {
    IN_CONTEXT;
    if (event->stream) work(event->stream, event->position);
    return here->lost;
}
API cuEventQuery(Event *event) { return cuEventSynchronize(event); }
API cuStreamWaitEvent(Stream *s, Event *event, unsigned) {
    IN_CONTEXT;
    Stream *other = event->stream;
    uint64_t position = event->position;
    return put(s, [=] {
        if (other) work(other, position);
        return FINE;
    });
}
API cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    IN_CONTEXT;
    for (Event *e : {start, end})
        if (e->stream) work(e->stream, e->position);
    *milliseconds = end->when - start->when;
    return FINE;
}
API cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    return cuEventElapsedTime(milliseconds, start, end);
}

/* ---- memory ---- */

enum { PAGE = 1 << 16, ALIGNED = 256, FILLED = 1 << 24 };
static size_t up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

API cuMemAlloc_v2(Pointer *pointer, size_t bytes) {
    IN_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (bytes > device_bytes() - all.taken[here->device]) return OUT_OF_MEMORY;
    size_t inside = up(bytes, PAGE), whole = inside + 2 * PAGE;
    char *pages = (char *)mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, inside, PROT_READ | PROT_WRITE)) return OUT_OF_MEMORY;
    char *start = pages + PAGE + inside - up(bytes, ALIGNED);
    memset(start, 0xff, bytes < FILLED /* more would take too long */ ? up(bytes, ALIGNED) : FILLED);
    *pointer = (Pointer)start;
    all.blocks[*pointer] = {here, pages, bytes, whole};
    all.taken[here->device] += bytes;
    return FINE;
}
API cuMemFree_v2(Pointer pointer) {
    IN_CONTEXT;
    auto found = all.blocks.find(pointer);
    if (found == all.blocks.end()) return INVALID_VALUE;
    Block block = found->second;
    work_all(block.context, false); /* as the driver, which waits */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    mmap(block.pages, block.all, PROT_NONE, flags, -1, 0); /* what uses it from now on fails */
    all.taken[block.context->device] -= block.bytes;
    all.blocks.erase(found);
    return here->lost;
}
API cuMemGetInfo_v2(size_t *free_bytes, size_t *bytes) {
    IN_CONTEXT;
    *bytes = device_bytes();
    *free_bytes = *bytes - all.taken[here->device];
    return FINE;
}
API cuMemGetAddressRange_v2(Pointer *start, size_t *bytes, Pointer pointer) {
    IN_CONTEXT;
    auto after = all.blocks.upper_bound(pointer);
    if (after == all.blocks.begin()) return NOT_FOUND;
    auto &[from, block] = *--after;
    if (pointer >= from + block.bytes) return NOT_FOUND;
    *start = from, *bytes = block.bytes;
    return FINE;
}

/* 1: the context that memory belongs to, 9: the number of its device */
API cuPointerGetAttribute(void *value, int attribute, Pointer pointer) {
    ENTER(false);
    auto after = all.blocks.upper_bound(pointer);
    if (after == all.blocks.begin()) return INVALID_VALUE;
    auto &[from, block] = *--after;
    if (pointer >= from + block.bytes) return INVALID_VALUE;
    if (attribute == 1) *(Context **)value = block.context;
    else if (attribute == 9) *(int *)value = block.context->device;
    else return INVALID_VALUE;
    return FINE;
}

static bool within(Pointer pointer, size_t bytes) {
    auto after = all.blocks.upper_bound(pointer);
    if (after == all.blocks.begin()) return false;
    auto &[from, block] = *--after;
    return pointer + bytes <= from + block.bytes;
}

/* a copy, or a memset, which reads and writes such bytes of the device; `waits`: done when the call returns */
static int move(bool valid, Stream *s, bool waits, std::function<void()> job) {
    if (!valid) return INVALID_VALUE;
    int failed = put(s, [=] { return job(), FINE; });
    if (!failed && waits) work_all(stack.back(), true);
    all.counts["copies"]++;
    return failed ? failed : stack.back()->lost;
}

API cuMemcpyHtoD_v2(Pointer to, const void *from, size_t n) {
    IN_CONTEXT;
    return move(within(to, n), nullptr, true, [=] { memcpy((void *)to, from, n); });
}
API cuMemcpyDtoH_v2(void *to, Pointer from, size_t n) {
    IN_CONTEXT;
    return move(within(from, n), nullptr, true, [=] { memcpy(to, (void *)from, n); });
}
API cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t n) {
    IN_CONTEXT;
    return move(within(to, n) && within(from, n), nullptr, true, [=] { memmove((void *)to, (void *)from, n); });
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t n, Stream *s) {
    IN_CONTEXT;
    std::string staged((const char *)from, n); /* the host may change it */
    return move(within(to, n), s, false, [=] { memcpy((void *)to, staged.data(), n); });
}
API cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t n, Stream *s) {
    IN_CONTEXT;
    return move(within(from, n), s, false, [=] { memcpy(to, (void *)from, n); });
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, Stream *s) {
    IN_CONTEXT;
    return move(within(to, n) && within(from, n), s, false, [=] { memmove((void *)to, (void *)from, n); });
}
template <class T> static int fill(Pointer to, T value, size_t n, Stream *s) {
    IN_CONTEXT;
    return move(within(to, n * sizeof(T)), s, false, [=] {
        for (size_t i = 0; i < n; i++) ((T *)to)[i] = value;
    });
}
API cuMemsetD8_v2(Pointer to, uint8_t value, size_t n) { return fill(to, value, n, nullptr); }
API cuMemsetD16_v2(Pointer to, uint16_t value, size_t n) { return fill(to, value, n, nullptr); }
API cuMemsetD32_v2(Pointer to, uint32_t value, size_t n) { return fill(to, value, n, nullptr); }
API cuMemsetD8Async(Pointer to, uint8_t value, size_t n, Stream *s) { return fill(to, value, n, s); }
API cuMemsetD16Async(Pointer to, uint16_t value, size_t n, Stream *s) { return fill(to, value, n, s); }
API cuMemsetD32Async(Pointer to, uint32_t value, size_t n, Stream *s) { return fill(to, value, n, s); }
API cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    IN_CONTEXT;
    return (*memory = malloc(bytes)) ? FINE : OUT_OF_MEMORY;
}
API cuMemFreeHost(void *memory) {
    ENTER(false);
    free(memory);
    return FINE;
}

/* ---- modules and kernels ---- */

/* bytes of an ELF file, whose table of sections is its end */
static size_t image_bytes(const unsigned char *image) {
    if (memcmp(image, "\x7f" "ELF\2", 5)) return 0;
    uint64_t start;
    uint16_t each, count;
    memcpy(&start, image + 40, 8), memcpy(&each, image + 58, 2), memcpy(&count, image + 60, 2);
    return start + each * count;
}

static void *opened(const void *image, size_t bytes) {
    const char *folder = getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : P_tmpdir) + "/emulated-cuda-XXXXXX"; /* mkstemp's */
    int file = mkstemp(&path[0]);
    if (file < 0) return nullptr;
    bool whole = write(file, image, bytes) == (ssize_t)bytes;
    close(file);
    void *found = whole ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path.c_str());
    return found;
}

static int load(Module **module, const void *image) {
    size_t bytes = image_bytes((const unsigned char *)image);
    if (!bytes) return INVALID_IMAGE;
    void *library = opened(image, bytes);
    if (!library) return INVALID_IMAGE;
    *module = new Module{stack.back(), (decltype(Module::find))dlsym(library, "emulator_find"),
                         (decltype(Module::launch))dlsym(library, "emulator_launch")};
    auto share_stacks = (void (*)(char **))dlsym(library, "emulator_share_stacks");
    if (!(*module)->find || !(*module)->launch || !share_stacks) return NO_BINARY_FOR_GPU;
    static char *stacks[1024];
    share_stacks(stacks);
    all.counts["modules"]++;
    return FINE;
}
API cuModuleLoadData(Module **module, const void *image) {
    IN_CONTEXT;
    return load(module, image);
}
/* what a compiler in the driver has to say of a module: the caller reads it whatever else fails */
static void say(const char *said, unsigned count, int *options, void **values) {
    for (unsigned i = 0; i < count; i++) {
        bool of_errors = options[i] == 5 || options[i] == 6;
        if (options[i] == 3 || options[i] == 5) strcpy((char *)values[i], of_errors ? said : "");
        if (options[i] == 4 || options[i] == 6) values[i] = (void *)(of_errors ? strlen(said) : 0);
    }
}
API cuModuleLoadDataEx(Module **module, const void *image, unsigned count, int *options, void **values) {
    say("", count, options, values);
    IN_CONTEXT;
    int failed = load(module, image);
    if (failed == INVALID_IMAGE) say("not an ELF file that can be loaded here", count, options, values);
    return failed;
}
API cuModuleUnload(Module *) {
    ENTER(false);
    all.counts["modules"]--;
    return FINE;
}
API cuModuleGetFunction(Function **function, Module *module, const char *name) {
    IN_CONTEXT;
    Function found = {module, 0, 0, 48 << 10};
    found.number = module->find(name, &found.parameters);
    if (found.number < 0) return NOT_FOUND;
    *function = new Function(found);
    return FINE;
}
API cuFuncSetAttribute(Function *function, int attribute, int value) {
    IN_CONTEXT;
    if (value > 227 << 10) return INVALID_VALUE;
    if (attribute == 8) function->dynamic = value;
    return FINE;
}
API cuFuncGetAttribute(int *value, int attribute, Function *function) {
    IN_CONTEXT;
    *value = attribute == 0 ? 1024 : attribute == 8 ? function->dynamic : 0;
    return FINE;
}

/* PyCUDA says the size of a block here, too */
API cuFuncSetBlockShape(Function *, int, int, int) {
    IN_CONTEXT;
    return FINE;
}

static bool has(const char *text, const char *part) { return strstr(text, part); }

/* what the driver calls what the emulator says */
static int as_error(const char *said) {
    if (!has(said, ", block (")) return OUT_OF_RESOURCES; /* it has not run */
    if (has(said, "Bus error")) return MISALIGNED_ADDRESS;
    return has(said, "Segmentation fault") ? ILLEGAL_ADDRESS : LAUNCH_FAILED;
}

static int run(const Function *f, std::vector<uint64_t> words, std::array<unsigned, 6> sizes, unsigned dynamic) {
    std::vector<void *> arguments;
    for (uint64_t &word : words) arguments.push_back(&word);
    std::vector<size_t> bytes(words.size(), 8);
    const char *said = f->module->launch(f->number, &sizes[0], &sizes[3], dynamic, arguments.data(), bytes.data(),
                                         words.size(), 0, 0);
    if (!said) return FINE;
    all.said = said;
    int failed = as_error(said);
    if (failed != OUT_OF_RESOURCES) fprintf(stderr, "emulated GPU: %s\n", said);
    return failed;
}

API cuLaunchKernel(const Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned dynamic, Stream *s, void **parameters, void **extra) {
    IN_CONTEXT;
    if (f->module->context != here) return INVALID_HANDLE;
    uint64_t blocks = (uint64_t)gx * gy * gz, threads = (uint64_t)bx * by * bz;
    if (!blocks || gx > INT32_MAX || gy > UINT16_MAX || gz > UINT16_MAX) return INVALID_VALUE;
    if (!threads || threads > 1024 || bz > 64 || dynamic > (unsigned)f->dynamic) return INVALID_VALUE;
    std::vector<uint64_t> words(f->parameters);
    const void *packed = nullptr;
    size_t bytes = 0;
    for (; extra && *extra; extra += 2) {
        if (*extra == (void *)1) packed = extra[1];
        if (*extra == (void *)2) bytes = *(size_t *)extra[1];
    }
    if (packed && bytes != 8 * words.size()) return INVALID_VALUE;
    for (size_t i = 0; i < words.size(); i++) memcpy(&words[i], packed ? (char *)packed + 8 * i : parameters[i], 8);
    all.counts["launches"]++;
    all.counts["launches in other streams"] += !is_default(s);
    return put(s, [=] { return run(f, words, {gx, gy, gz, bx, by, bz}, dynamic); });
}
