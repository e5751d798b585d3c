/* CUDA on a CPU: g++ reads this file, then a CUDA source as it stands, and the result runs each block's threads.
 *
 * The threads of a block are fibers on one thread of the system, and a fiber runs until it waits: at a barrier, or in
 * a shuffle or vote of its warp. Those that can go on are then resumed in the order that the launch asks for: forward,
 * reverse, or random, where moreover only some of them are. Blocks run one after another in that order too, so a block
 * cannot wait for another one. A wait that nothing ends is an error, as is a barrier that only a part of the threads
 * reach. Shared memory is filled with bytes of ones at the start of a block: NaN in float and double.
 *
 * What a macro cannot say, emulator.py does to the preprocessed text: names of kernels, __shared__, inline PTX.
 * EMULATOR_MAIN makes a program of it instead of a shared object: one launch from standard input.
 */
#ifndef EMULATOR_H
#define EMULATOR_H

#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS /* those of C, read three times as fast; functions for float stand below */
#include <math.h>
#include <stdlib.h>
#undef _GLIBCXX_INCLUDE_NEXT_C_HEADERS
#include <float.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(EMULATOR_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#undef EMULATOR_UCONTEXT
#define EMULATOR_UCONTEXT 1
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define EXPORTED extern "C" __attribute__((visibility("default")))
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* ---- vectors ---- */

#define VECTORS(T, name)                                                                                               \
    struct name##1 { T x; };                                                                                           \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                                 \
    struct name##3 { T x, y, z; };                                                                                     \
    struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };                                      \
    static inline name##1 make_##name##1(T x) { return {x}; }                                                          \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                  \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(signed char, char)
VECTORS(unsigned char, uchar)
VECTORS(short, short)
VECTORS(unsigned short, ushort)
VECTORS(int, int)
VECTORS(unsigned, uint)
VECTORS(long long, longlong)
VECTORS(unsigned long long, ulonglong)
VECTORS(float, float)
VECTORS(double, double)
#undef VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
enum { warpSize = 32 };

/* ---- fibers ---- */

namespace emulator {

enum { MOST_THREADS = 1024, STACK = 1 << 18, PAGE = 1 << 16, STATIC_SHARED = 48 << 10, ALL_SHARED = 227 << 10 };

#ifdef EMULATOR_UCONTEXT

struct context {
    ucontext_t kept;
    void *fake;
};

static void swap(context &from, context &to) { swapcontext(&from.kept, &to.kept); }

static void begin(context &c, char *stack, size_t bytes, void (*body)()) {
    getcontext(&c.kept);
    c.kept.uc_stack.ss_sp = stack;
    c.kept.uc_stack.ss_size = bytes;
    c.kept.uc_link = nullptr;
    makecontext(&c.kept, body, 0);
}

#else

struct context {
    void *kept; /* the stack pointer; the registers that a function preserves lie there */
    void *fake;
};

extern "C" __attribute__((visibility("hidden"))) void emulator_swap(void **kept, void *next);

#ifdef __x86_64__
enum { ENTRY = 6, FRAME = 8 }; /* words of a stack that has not run: where body stands, and all */
__asm__(R"(
    .text
    .p2align 4
    .globl emulator_swap
    .hidden emulator_swap
    .type emulator_swap, @function
emulator_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_swap, . - emulator_swap
)");
#else
enum { ENTRY = 11, FRAME = 20 };
__asm__(R"(
    .text
    .p2align 4
    .globl emulator_swap
    .hidden emulator_swap
    .type emulator_swap, %function
emulator_swap:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emulator_swap, . - emulator_swap
)");
#endif

static void swap(context &from, context &to) { emulator_swap(&from.kept, to.kept); }

static void begin(context &c, char *stack, size_t bytes, void (*body)()) {
    void **frame = (void **)(stack + bytes) - FRAME;
    memset(frame, 0, FRAME * sizeof(void *));
    frame[ENTRY] = (void *)body;
    c.kept = frame;
}

#endif

enum state { READY, AT_BARRIER, IN_WARP, ENDED };

struct fiber {
    context place;
    char *stack;
    uint3 index;
    state now;
    const char *what, *file; /* where it waits */
    int line;
    unsigned mask;        /* the lanes that it waits for */
    uint64_t sent, shown; /* what it brings, and what others see of it once all are there */
};

struct kernel {
    const char *name;
    void (*call)(void *const *arguments);
    int parameters;
    const size_t *bytes; /* of each parameter */
    unsigned most_threads;
};

enum order { FORWARD, REVERSE, RANDOM };

struct region {
    const char *name, *start;
    size_t bytes;
};

static struct {
    const kernel *running;
    void *const *arguments;
    fiber fibers[MOST_THREADS], *current;
    unsigned threads, turn[MOST_THREADS];
    order how;
    uint64_t random;
    context main;
    const void *main_stack;
    size_t main_bytes;
    uint64_t block;     /* counts blocks over all launches */
    size_t dynamic;     /* bytes of dynamic shared memory */
    size_t shared;      /* bytes of static shared memory that the block has met */
    region met[64];     /* the last of its variables */
    unsigned mets;
    int agreed;         /* threads whose predicate held at the last barrier */
    bool failed;
    char message[1024];
} all;

alignas(1024) static char dynamic_bytes[ALL_SHARED];

/* what extern __shared__ arrays become */
static constexpr struct {
    template <class T> operator T *() const { return (T *)dynamic_bytes; }
} dynamic_shared;

static void change(context &from, context &to, bool forever = false) {
    (void)forever;
#ifdef __SANITIZE_ADDRESS__
    bool leaving = &to == &all.main;
    __sanitizer_start_switch_fiber(forever ? nullptr : &from.fake, leaving ? all.main_stack : all.current->stack,
                                   leaving ? all.main_bytes : (size_t)STACK);
#endif
    swap(from, to);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#endif
}

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t said = strlen(all.message);
    vsnprintf(all.message + said, sizeof all.message - said, format, arguments);
    va_end(arguments);
    all.failed = true;
}

static void say_where() {
    uint3 t = threadIdx, b = blockIdx;
    say("kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ", all.running->name, b.x, b.y, b.z, t.x, t.y, t.z);
}

/* ends the launch from within a thread */
[[noreturn]] static void give_up() {
    change(all.current->place, all.main, true);
    __builtin_unreachable();
}

static void body() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &all.main_stack, &all.main_bytes);
#endif
    all.running->call(all.arguments);
    all.current->now = ENDED;
    give_up();
}

static void wait(state now, const char *what, const char *file, int line, unsigned mask, uint64_t sent) {
    fiber &me = *all.current;
    me.now = now, me.what = what, me.file = file, me.line = line, me.mask = mask, me.sent = sent;
    change(me.place, all.main);
}

/* on both sides of a static shared variable */
struct guard {
    char bytes[64];
    void close() {
#ifdef __SANITIZE_ADDRESS__
        ASAN_POISON_MEMORY_REGION(bytes, sizeof bytes);
#endif
    }
};

/* a static shared variable is met by its first thread in a block */
template <class G>
static inline void meet(uint64_t &met, const char *name, G &guarded, volatile void *memory, size_t bytes) {
    if (met == all.block) return;
    met = all.block;
    memset((void *)memory, 0xff, bytes);
    guarded.before.close();
    guarded.behind.close();
    all.met[all.mets++ % 64] = {name, (const char *)memory, bytes};
    all.shared += bytes;
    if (all.shared > STATIC_SHARED) {
        say_where();
        say("more than %d bytes of static shared memory", STATIC_SHARED);
        give_up();
    }
}

/* ---- a block ---- */

static uint64_t draw(uint64_t below) {
    all.random ^= all.random << 13, all.random ^= all.random >> 7, all.random ^= all.random << 17;
    return (all.random * 0x9e3779b97f4a7c15u >> 32) % below;
}

template <class I> static void arrange(I *turn, I n) {
    for (I i = 0; i < n; i++) turn[i] = all.how == REVERSE ? n - 1 - i : i;
    if (all.how != RANDOM) return;
    for (I i = n; i > 1; i--) {
        I &one = turn[i - 1], &other = turn[draw(i)], kept = one;
        one = other, other = kept;
    }
}

static void resume(fiber &f) {
    all.current = &f;
    threadIdx = f.index;
    change(all.main, f.place);
}

static bool same_wait(const fiber &f, const fiber &g) {
    return f.now == g.now && f.what == g.what && f.mask == g.mask && f.line == g.line && !strcmp(f.file, g.file);
}

/* all threads of the block wait at one barrier: they may go on */
static bool release_barrier() {
    int agreed = 0;
    const fiber &first = all.fibers[0];
    for (unsigned t = 0; t < all.threads; t++) {
        const fiber &f = all.fibers[t];
        if (f.now != AT_BARRIER || !same_wait(f, first)) return false;
        agreed += f.sent != 0;
    }
    all.agreed = agreed;
    for (unsigned t = 0; t < all.threads; t++) all.fibers[t].now = READY;
    return true;
}

/* all lanes that the mask of f names, and that have not ended, wait in the same function with the same mask */
static bool release_lanes(fiber &f) {
    fiber *warp = all.fibers + (&f - all.fibers) / warpSize * warpSize;
    unsigned lanes = all.fibers + all.threads - warp < warpSize ? all.fibers + all.threads - warp : warpSize;
    for (unsigned l = 0; l < lanes; l++) {
        const fiber &other = warp[l];
        if (!(f.mask >> l & 1) || other.now == ENDED) continue;
        if (other.now != IN_WARP || other.mask != f.mask || other.what != f.what) return false;
    }
    for (unsigned l = 0; l < lanes; l++) {
        fiber &other = warp[l];
        if (!(f.mask >> l & 1)) continue;
        other.shown = other.now == ENDED ? ~(uint64_t)0 : other.sent;
        if (other.now != ENDED) other.now = READY;
    }
    return true;
}

static void say_index(const fiber &f) { say("thread (%u, %u, %u)", f.index.x, f.index.y, f.index.z); }

static void say_wait(const fiber &f) {
    say_index(f);
    if (f.now == ENDED) say(" has ended");
    else say(" waits in %s at %s:%d", f.what, f.file, f.line);
}

/* nothing can go on: why, by the first thread that waits and one that is elsewhere */
static void say_stuck() {
    const fiber *first = nullptr, *other = nullptr;
    for (unsigned t = 0; t < all.threads && !first; t++)
        if (all.fibers[t].now != ENDED) first = &all.fibers[t];
    for (unsigned t = 0; t < all.threads && !other; t++)
        if (!same_wait(all.fibers[t], *first)) other = &all.fibers[t];
    uint3 b = blockIdx;
    say("kernel %s, block (%u, %u, %u): ", all.running->name, b.x, b.y, b.z);
    say("not all threads reach the same %s: ", first->what);
    say_wait(*first);
    if (!other) return;
    say(", ");
    say_wait(*other);
    if (other->now == IN_WARP && other->mask != first->mask)
        say(", masks are %#x and %#x", first->mask, other->mask);
}

static char *own_stacks[MOST_THREADS], **stacks = own_stacks;

static void prepare(unsigned t) {
    fiber &f = all.fibers[t];
    f.stack = stacks[t];
    if (!f.stack) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        f.stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (f.stack == MAP_FAILED) abort();
        mprotect(f.stack, PAGE, PROT_NONE); /* a stack that is too deep ends here */
        stacks[t] = f.stack;
    } else {
#ifdef __SANITIZE_ADDRESS__
        ASAN_UNPOISON_MEMORY_REGION(f.stack, STACK); /* from what an earlier thread has left */
#endif
    }
    begin(f.place, f.stack, STACK - t % 32 * 320, body); /* tops of stacks in different lines of the cache */
    f.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    f.now = READY;
    f.shown = ~(uint64_t)0;
}

static void run_block(size_t dynamic) {
    all.block++;
    all.shared = all.mets = 0;
    all.dynamic = dynamic;
    memset(dynamic_bytes, 0xff, dynamic);
    for (unsigned t = 0; t < all.threads; t++) prepare(t);
    arrange(all.turn, all.threads);
    for (unsigned ended = 0; ended < all.threads;) {
        unsigned ready = 0, some = all.threads;
        if (all.how == RANDOM) arrange(all.turn, all.threads), some = 1 + draw(all.threads);
        for (unsigned i = 0; i < all.threads; i++) {
            fiber &f = all.fibers[all.turn[i]];
            if (f.now != READY) continue;
            if (ready++ >= some) continue;
            resume(f);
            if (all.failed) return;
            ended += f.now == ENDED;
        }
        bool released = ready > some || release_barrier();
        for (unsigned t = 0; t < all.threads; t++)
            if (all.fibers[t].now == IN_WARP) released |= release_lanes(all.fibers[t]);
        if (!released && ended < all.threads) return say_stuck();
    }
}

/* ---- a launch ---- */

static void on_signal(int number, siginfo_t *info, void *) {
    char *place = (char *)info->si_addr, *guard = all.current->stack;
    say_where();
    say("%s", strsignal(number));
    if (number == SIGSEGV && place >= guard && place < guard + PAGE)
        say(": a thread needs more than the %d KiB of stack that it has here", (STACK - PAGE) / 1024);
    else if (number == SIGSEGV && info->si_code == SI_KERNEL)
        say(": an address that is none, or not a multiple of the alignment");
    else
        say(" at %p", (void *)place);
    give_up();
}

/* turns what would end the process into an error of the launch, while it lives */
struct signals {
#ifndef __SANITIZE_ADDRESS__
    static constexpr int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[4];
    stack_t stack_before;
    signals() {
        alignas(16) static char bytes[1 << 16];
        stack_t stack = {};
        stack.ss_sp = bytes, stack.ss_size = sizeof bytes;
        sigaltstack(&stack, &stack_before);
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 4; i++) sigaction(numbers[i], &action, before + i);
    }
    ~signals() {
        for (int i = 0; i < 4; i++) sigaction(numbers[i], before + i, nullptr);
        sigaltstack(&stack_before, nullptr);
    }
#endif
};

static void check(const unsigned *grid, const unsigned *block, size_t dynamic, const size_t *bytes, int count) {
    const kernel &k = *all.running;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2], most = MOST_THREADS;
    if (k.most_threads && k.most_threads < most) most = k.most_threads;
    if (count != k.parameters) return say("kernel %s takes %d arguments, got %d", k.name, k.parameters, count);
    for (int i = 0; i < count; i++)
        if (bytes[i] != k.bytes[i])
            return say("argument %d of kernel %s has %zu bytes, got %zu", i, k.name, k.bytes[i], bytes[i]);
    if (!threads || threads > most || block[2] > 64)
        say("kernel %s: a block of (%u, %u, %u) threads; it may have 1 to %d, and 64 in z", k.name, block[0], block[1],
            block[2], (int)most);
    else if (!grid[0] || !grid[1] || !grid[2] || grid[0] > INT32_MAX || grid[1] > UINT16_MAX || grid[2] > UINT16_MAX)
        say("kernel %s: a grid of (%u, %u, %u) blocks; it may have 1 to 2147483647, 65535 and 65535", k.name, grid[0],
            grid[1], grid[2]);
    else if (dynamic > ALL_SHARED)
        say("kernel %s: %zu bytes of dynamic shared memory; there are %d", k.name, dynamic, ALL_SHARED);
}

template <auto F> struct function;
template <size_t... I> struct places {};

template <class... A, void (*F)(A...)> struct function<F> {
    static constexpr size_t bytes[] = {sizeof(A)..., 0};
    template <size_t... I> static void pass(void *const *arguments, places<I...>) { F(*(A *)arguments[I]...); }
    static void call(void *const *arguments) { pass(arguments, places<__integer_pack(sizeof...(A))...>()); }
    static constexpr kernel named(const char *name, unsigned most_threads = 0, unsigned = 0) {
        return {name, call, sizeof...(A), bytes, most_threads};
    }
};

} // namespace emulator

extern const emulator::kernel emulator_kernels[]; /* at the end of the text, with how many there are */
extern const int emulator_kernel_count;

/* the number of a kernel and how many arguments it takes; -1 where there is none of that name */
EXPORTED int emulator_find(const char *name, int *parameters) {
    for (int k = 0; k < emulator_kernel_count; k++) {
        *parameters = emulator_kernels[k].parameters;
        if (!strcmp(emulator_kernels[k].name, name)) return k;
    }
    return -1;
}

/* 1024 places for the stacks of threads, which modules may share that do not run at once: the system has only so many */
EXPORTED void emulator_share_stacks(char **places) { emulator::stacks = places; }

/* NULL, or why the launch failed; `bytes` are the sizes of the arguments */
EXPORTED const char *emulator_launch(int number, const unsigned *grid, const unsigned *block, size_t dynamic,
                                     void *const *arguments, const size_t *bytes, int count, int how, uint64_t seed) {
    using namespace emulator;
    all.running = emulator_kernels + number;
    all.arguments = arguments;
    all.how = (order)how;
    all.random = seed * 0x9e3779b97f4a7c15u | 1;
    all.failed = false;
    all.message[0] = 0;
    check(grid, block, dynamic, bytes, count);
    if (all.failed) return all.message;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    all.threads = block[0] * block[1] * block[2];
    uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2], *turn = (uint64_t *)malloc(blocks * sizeof *turn);
    arrange(turn, blocks);
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(dynamic_bytes, dynamic);
    ASAN_POISON_MEMORY_REGION(dynamic_bytes + dynamic, ALL_SHARED - dynamic);
#endif
    {
        signals caught;
        for (uint64_t i = 0; i < blocks && !all.failed; i++) {
            uint64_t b = turn[i];
            blockIdx = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
            run_block(dynamic);
        }
    }
    free(turn);
    return all.failed ? all.message : nullptr;
}

#ifdef __SANITIZE_ADDRESS__
namespace emulator {

/* the arrays of the launch */
static struct {
    uint64_t count;
    char **memory;
    size_t *bytes;
} device;

/* bytes between a place and a region; small numbers for what was meant */
static uint64_t distance(const char *place, const region &r) {
    const char *end = r.start + r.bytes;
    return place < r.start ? r.start - place : place >= end ? place - end : 0;
}

static void say_nearest(const char *place) {
    region nearest = {"dynamic shared memory", dynamic_bytes, all.dynamic};
    int number = -1;
    for (unsigned i = 0; i < 64 && i < all.mets; i++)
        if (distance(place, all.met[i]) < distance(place, nearest)) nearest = all.met[i];
    for (uint64_t i = 0; i < device.count; i++) {
        region array = {"array", device.memory[i], device.bytes[i]};
        if (distance(place, array) < distance(place, nearest)) nearest = array, number = i;
    }
    if (distance(place, nearest) > 4096) return;
    say("%d bytes %s ", (int)distance(place, nearest), place < nearest.start ? "before" : "behind the end of");
    if (number < 0) say("%s: ", nearest.name);
    else say("array %d of the arguments: ", number);
}

} // namespace emulator

/* the sanitizer calls this before its report */
EXPORTED void __asan_on_error() {
    if (!emulator::all.current) return;
    emulator::say_where();
    emulator::say_nearest((const char *)__asan_get_report_address());
    fprintf(stderr, "EMULATOR %s\n", emulator::all.message);
}
#endif

/* ---- barriers, warps ---- */

namespace emulator {

static inline int barrier(const char *what, int predicate, const char *file, int line) {
    wait(AT_BARRIER, what, file, line, 0, predicate != 0);
    return all.agreed;
}

static inline unsigned lane() { return (unsigned)(all.current - all.fibers) % warpSize; }

static inline void meet_lanes(const char *what, unsigned mask, uint64_t sent, const char *file, int line) {
    if (!(mask >> lane() & 1)) {
        say_where();
        say("mask %#x of %s at %s:%d does not name the calling lane %u", mask, what, file, line, lane());
        give_up();
    }
    wait(IN_WARP, what, file, line, mask, sent);
}

/* what lane `from` has sent; bytes of ones where it takes no part */
static inline uint64_t shown_by(unsigned mask, unsigned from) {
    const fiber *warp = all.current - lane();
    bool there = mask >> from & 1 && warp + from < all.fibers + all.threads;
    return there ? warp[from].shown : ~(uint64_t)0;
}

static inline unsigned votes(unsigned mask) {
    unsigned found = 0;
    for (unsigned l = 0; l < warpSize; l++)
        if (mask >> l & 1 && shown_by(mask, l) == 1) found |= 1u << l;
    return found;
}

template <class To, class From> static inline To bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from);
    memcpy(&to, &from, sizeof to);
    return to;
}

template <class T>
static inline T shuffle(const char *what, unsigned mask, T value, unsigned from, const char *file, int line) {
    uint64_t sent = 0;
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    memcpy(&sent, &value, sizeof value);
    meet_lanes(what, mask, sent, file, line);
    uint64_t got = shown_by(mask, from);
    memcpy(&value, &got, sizeof value);
    return value;
}

} // namespace emulator

static inline void __syncthreads(HERE) { emulator::barrier("__syncthreads", 0, file, line); }
static inline int __syncthreads_count(int p, HERE) { return emulator::barrier("__syncthreads_count", p, file, line); }
static inline int __syncthreads_or(int p, HERE) { return emulator::barrier("__syncthreads_or", p, file, line) > 0; }
static inline int __syncthreads_and(int p, HERE) {
    return emulator::barrier("__syncthreads_and", p, file, line) == (int)emulator::all.threads;
}
static inline void __syncwarp(unsigned mask = ~0u, HERE) { emulator::meet_lanes("__syncwarp", mask, 0, file, line); }
static inline unsigned __ballot_sync(unsigned mask, int predicate, HERE) {
    emulator::meet_lanes("__ballot_sync", mask, predicate != 0, file, line);
    return emulator::votes(mask);
}
static inline int __any_sync(unsigned mask, int predicate, HERE) {
    emulator::meet_lanes("__any_sync", mask, predicate != 0, file, line);
    return emulator::votes(mask) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, HERE) {
    emulator::meet_lanes("__all_sync", mask, predicate == 0, file, line);
    return emulator::votes(mask) == 0;
}
/* a lane outside of the caller's part of `width` lanes gives the caller's own value */
template <class T> static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, HERE) {
    int me = emulator::lane(), start = me & -width;
    return emulator::shuffle("__shfl_sync", mask, value, start + (from & (width - 1)), file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, HERE) {
    int me = emulator::lane(), start = me & -width, from = me - (int)by;
    return emulator::shuffle("__shfl_up_sync", mask, value, from < start ? me : from, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, HERE) {
    int me = emulator::lane(), end = (me & -width) + width, from = me + (int)by;
    return emulator::shuffle("__shfl_down_sync", mask, value, from >= end ? me : from, file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, HERE) {
    int me = emulator::lane(), end = (me & -width) + width, from = me ^ with;
    return emulator::shuffle("__shfl_xor_sync", mask, value, from >= end ? me : from, file, line);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
[[noreturn]] static inline void __trap() {
    emulator::say_where();
    emulator::say("__trap");
    emulator::give_up();
}
namespace emulator {
[[noreturn]] static inline void refuse(const char *claim, const char *file, int line) {
    say("%s:%d: assert(%s)", file, line, claim);
    give_up();
}
} // namespace emulator
#undef assert
#define assert(held)                                                                                                   \
    ((held) ? (void)0 : (emulator::say_where(), emulator::refuse(#held, __FILE__, __LINE__)))

/* ---- atomics: there is one thread at a time ---- */

#define ATOMIC(T, name, change)                                                                                        \
    static inline T name(T *place, T value) {                                                                          \
        T old = *place;                                                                                                \
        *place = change;                                                                                               \
        return old;                                                                                                    \
    }
#define ATOMICS(T)                                                                                                     \
    ATOMIC(T, atomicMin, value < old ? value : old)                                                                    \
    ATOMIC(T, atomicMax, value > old ? value : old)                                                                    \
    ATOMIC(T, atomicAnd, old &value)                                                                                   \
    ATOMIC(T, atomicOr, old | value)                                                                                   \
    ATOMIC(T, atomicXor, old ^ value)
ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(long long)
ATOMICS(unsigned long long)
ATOMIC(int, atomicAdd, (int)((unsigned)old + (unsigned)value))
ATOMIC(unsigned, atomicAdd, old + value)
ATOMIC(unsigned long long, atomicAdd, old + value)
ATOMIC(float, atomicAdd, old + value)
ATOMIC(double, atomicAdd, old + value)
ATOMIC(int, atomicSub, (int)((unsigned)old - (unsigned)value))
ATOMIC(unsigned, atomicSub, old - value)
ATOMIC(int, atomicExch, value)
ATOMIC(unsigned, atomicExch, value)
ATOMIC(unsigned long long, atomicExch, value)
ATOMIC(float, atomicExch, value)
ATOMIC(unsigned, atomicInc, old >= value ? 0 : old + 1)
ATOMIC(unsigned, atomicDec, old == 0 || old > value ? value : old - 1)
#undef ATOMICS
#undef ATOMIC
#define CAS(T)                                                                                                         \
    static inline T atomicCAS(T *place, T expected, T value) {                                                         \
        T old = *place;                                                                                                \
        if (old == expected) *place = value;                                                                           \
        return old;                                                                                                    \
    }
CAS(int)
CAS(unsigned)
CAS(unsigned long long)
#undef CAS

/* ---- functions ---- */

#define ONE(name) static inline float name(float a) { return name##f(a); }
#define TWO(name) static inline float name(float a, float b) { return name##f(a, b); }
ONE(exp) ONE(exp2) ONE(exp10) ONE(expm1) ONE(log) ONE(log2) ONE(log10) ONE(log1p) ONE(sqrt) ONE(cbrt) ONE(sin)
ONE(cos) ONE(tan) ONE(asin) ONE(acos) ONE(atan) ONE(sinh) ONE(cosh) ONE(tanh) ONE(asinh) ONE(acosh) ONE(atanh)
ONE(floor) ONE(ceil) ONE(trunc) ONE(round) ONE(rint) ONE(nearbyint) ONE(fabs) ONE(erf) ONE(erfc) ONE(lgamma) ONE(tgamma)
TWO(pow) TWO(fmod) TWO(atan2) TWO(fmax) TWO(fmin) TWO(hypot) TWO(copysign) TWO(fdim) TWO(remainder) TWO(nextafter)
#undef ONE
#undef TWO
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline double rsqrt(double a) { return 1 / sqrt(a); }
static inline float rsqrtf(float a) { return (float)(1 / sqrt((double)a)); }
static inline float rsqrt(float a) { return rsqrtf(a); }
static inline void sincos(float a, float *s, float *c) { sincosf(a, s, c); }
static inline double sinpi(double a) { return sin(M_PI * remainder(a, 2.0)); }
static inline double cospi(double a) { return cos(M_PI * remainder(a, 2.0)); }
static inline float sinpif(float a) { return (float)sinpi((double)a); }
static inline float cospif(float a) { return (float)cospi((double)a); }
static inline float fdividef(float a, float b) { return a / b; }
static inline float abs(float a) { return fabsf(a); }
static inline double abs(double a) { return fabs(a); }
static inline long abs(long a) { return labs(a); }
static inline long long abs(long long a) { return llabs(a); }

/* of two operands that are not NaN, as fmin and fmax */
#define LEAST(name, less)                                                                                              \
    template <class A, class B> static inline auto name(A a, B b) {                                                    \
        decltype(true ? a : b) x = a, y = b;                                                                           \
        return x != x ? y : y != y ? x : y less x ? y : x;                                                             \
    }
LEAST(min, <)
LEAST(max, >)
#undef LEAST

namespace emulator::ptx {

static inline float flushed(float a) { return fabsf(a) < FLT_MIN ? copysignf(0, a) : a; }

/* op out, a, ...; with .ftz numbers too small to be normal are 0 before and after; approximate ones are exact here */
#define PTX(name, value)                                                                                               \
    static inline void name##_f32(float &out, float a) { out = (float)(value); }                                       \
    static inline void name##_ftz_f32(float &out, float a) {                                                           \
        a = flushed(a);                                                                                                \
        out = flushed((float)(value));                                                                                 \
    }
PTX(ex2_approx, exp2f(a))
PTX(lg2_approx, log2f(a))
PTX(rsqrt_approx, rsqrtf(a))
PTX(rcp_approx, 1 / a)
PTX(sqrt_approx, sqrtf(a))
PTX(sin_approx, sinf(a))
PTX(cos_approx, cosf(a))
PTX(tanh_approx, tanhf(a))
#undef PTX
static inline void fma_rn_f32(float &out, float a, float b, float c) { out = fmaf(a, b, c); }
static inline void fma_rn_ftz_f32(float &out, float a, float b, float c) {
    out = flushed(fmaf(flushed(a), flushed(b), flushed(c)));
}
static inline void fma_rn_f64(double &out, double a, double b, double c) { out = fma(a, b, c); }

/* numbers of 2 bytes, by their bits */
static inline void cvt_f32_f16(float &out, unsigned short a) { out = (float)__builtin_bit_cast(_Float16, a); }
static inline void cvt_rn_f16_f32(unsigned short &out, float a) { out = __builtin_bit_cast(unsigned short, (_Float16)a); }
static inline void cvt_rn_f16_f64(unsigned short &out, double a) { out = __builtin_bit_cast(unsigned short, (_Float16)a); }

} // namespace emulator::ptx

namespace emulator {

/* made of the approximate base-2 functions, and less accurate for that; the C library has the names for itself */
static inline float fast_exp2f(float a) { return exp2f(a); }
static inline float fast_expf(float a) { return exp2f(a * 1.4426950408889634f); }
static inline float fast_exp10f(float a) { return exp2f(a * 3.3219280948873623f); }
static inline float fast_log2f(float a) { return log2f(a); }
static inline float fast_logf(float a) { return log2f(a) * 0.69314718055994531f; }
static inline float fast_log10f(float a) { return log2f(a) * 0.30102999566398120f; }
static inline float fast_powf(float a, float b) { return exp2f(b * log2f(a)); }
static inline float fast_sinf(float a) { return sinf(a); }
static inline float fast_cosf(float a) { return cosf(a); }
static inline float fast_tanf(float a) { return sinf(a) / cosf(a); }
static inline void fast_sincosf(float a, float *s, float *c) { sincosf(a, s, c); }

} // namespace emulator
#define __exp2f emulator::fast_exp2f
#define __expf emulator::fast_expf
#define __exp10f emulator::fast_exp10f
#define __log2f emulator::fast_log2f
#define __logf emulator::fast_logf
#define __log10f emulator::fast_log10f
#define __powf emulator::fast_powf
#define __sinf emulator::fast_sinf
#define __cosf emulator::fast_cosf
#define __tanf emulator::fast_tanf
#define __sincosf emulator::fast_sincosf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float a) { return a > 0 ? a < 1 ? a : 1 : 0; }

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frcp_rn(float a) { return 1 / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frsqrt_rn(float a) { return rsqrtf(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __drcp_rn(double a) { return 1 / a; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }

static inline int __float_as_int(float a) { return emulator::bits<int>(a); }
static inline unsigned __float_as_uint(float a) { return emulator::bits<unsigned>(a); }
static inline float __int_as_float(int a) { return emulator::bits<float>(a); }
static inline float __uint_as_float(unsigned a) { return emulator::bits<float>(a); }
static inline long long __double_as_longlong(double a) { return emulator::bits<long long>(a); }
static inline double __longlong_as_double(long long a) { return emulator::bits<double>(a); }
static inline int __double2hiint(double a) { return (int)(emulator::bits<uint64_t>(a) >> 32); }
static inline int __double2loint(double a) { return (int)emulator::bits<uint64_t>(a); }
static inline double __hiloint2double(int high, int low) {
    return emulator::bits<double>((uint64_t)(unsigned)high << 32 | (unsigned)low);
}
static inline int __float2int_rn(float a) { return (int)rintf(a); }
static inline int __float2int_rz(float a) { return (int)a; }
static inline int __float2int_rd(float a) { return (int)floorf(a); }
static inline int __float2int_ru(float a) { return (int)ceilf(a); }
static inline int __double2int_rn(double a) { return (int)rint(a); }
static inline int __double2int_rz(double a) { return (int)a; }
static inline long long __double2ll_rn(double a) { return (long long)rint(a); }
static inline float __int2float_rn(int a) { return (float)a; }
static inline double __int2double_rn(int a) { return a; }
static inline float __double2float_rn(double a) { return (float)a; }

static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
static inline int __clz(int a) { return a ? __builtin_clz((unsigned)a) : 32; }
static inline int __clzll(long long a) { return a ? __builtin_clzll((unsigned long long)a) : 64; }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline int __ffsll(long long a) { return __builtin_ffsll(a); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
template <class T> static inline T __ldg(const T *place) { return *place; }
template <class T> static inline T __ldcs(const T *place) { return *place; }
template <class T> static inline T __ldcg(const T *place) { return *place; }
template <class T> static inline void __stcs(T *place, T value) { *place = value; }

/* ---- one launch as a program ---- */

#ifdef EMULATOR_MAIN
namespace emulator {

static void take(void *memory, size_t bytes) {
    if (bytes && fread(memory, bytes, 1, stdin) != 1) exit(3);
}

static uint64_t number() {
    uint64_t found;
    take(&found, sizeof found);
    return found;
}

/* memory of the device: as many bytes as the host has, at an address like the host's as to alignment */
static char *allocate(size_t bytes, size_t skew) {
    char *start;
    if (posix_memalign((void **)&start, 256, bytes + skew)) exit(3);
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(start, skew);
#endif
    return start + skew;
}

} // namespace emulator

int main() {
    using namespace emulator;
    int out = dup(1), kernel, how;
    dup2(2, 1); /* what a kernel prints is not a result */
    unsigned grid[3], block[3];
    kernel = number();
    for (unsigned &n : grid) n = number();
    for (unsigned &n : block) n = number();
    size_t dynamic = number();
    how = number();
    uint64_t seed = number(), buffers = number();
    char *memory[buffers + 1];
    size_t length[buffers + 1];
    for (uint64_t i = 0; i < buffers; i++) {
        length[i] = number();
        memory[i] = allocate(length[i], number());
        take(memory[i], length[i]);
    }
#ifdef __SANITIZE_ADDRESS__
    device = {buffers, memory, length};
#endif
    uint64_t count = number();
    void *arguments[count + 1];
    size_t bytes[count + 1];
    for (uint64_t i = 0; i < count; i++) {
        bytes[i] = number();
        take(arguments[i] = malloc(bytes[i] + 1), bytes[i]);
        for (uint64_t pointers = number(); pointers; pointers--) {
            uint64_t at = number(), buffer = number();
            char *to = memory[buffer] + (int64_t)number();
            memcpy((char *)arguments[i] + at, &to, sizeof to);
        }
    }
    const char *failed = emulator_launch(kernel, grid, block, dynamic, arguments, bytes, count, how, seed);
    if (failed) {
        fprintf(stderr, "EMULATOR %s\n", failed);
        return 2;
    }
    FILE *results = fdopen(out, "wb");
    for (uint64_t i = 0; i < buffers; i++) fwrite(memory[i], 1, length[i], results);
    return fclose(results) ? 3 : 0;
}
#endif

#undef EXPORTED
#undef HERE
#endif
