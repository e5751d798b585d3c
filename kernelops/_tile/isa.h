/* The tile engine, once for each instruction set; the best that the processor has is chosen when the module loads. */
#ifndef KERNELOPS_ISA_H
#define KERNELOPS_ISA_H

#include "plan.h"
#include "pool.h"
#include "vmath.h"

#if defined(_MSC_VER) && !defined(__clang__)
#define SIMD __pragma(loop(ivdep))
#define SIMD_SUM(v)
#define SIMD_OR(v)
#else
#define PRAGMA(text) _Pragma(#text)
#define SIMD PRAGMA(omp simd)
#define SIMD_SUM(v) PRAGMA(omp simd reduction(+ : v))
#define SIMD_OR(v) PRAGMA(omp simd reduction(| : v))
#endif

typedef void (*piece)(const job *, int64_t, void *);

/* What one instruction set offers; [0] in float, [1] in double. */
typedef struct {
    piece params[2], pack[2], task[2], centre[2], shift[2], strip[2], merge[2];
    size_t (*scratch_bytes[2])(const job *);
} machine;

#if defined(__GNUC__) || defined(__clang__)
#define KERNELOPS_VECTORS 1
#if defined(__x86_64__)
#define KERNELOPS_X86 1
#include <immintrin.h>
#endif
#define lowest_bit(mask) __builtin_ctzll(mask)
#else
static inline int lowest_bit(uint64_t mask) {
    int bit = 0;
    while (!(mask >> bit & 1)) bit++;
    return bit;
}
#endif

#define ISA baseline
#define REGISTER_BYTES 16
#include "precision.h"

#ifdef KERNELOPS_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define REGISTER_BYTES 32
#include "precision.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifndef KERNELOPS_WITHOUT_AVX512 /* a build that is to be quick on a processor that has not got it */
#define KERNELOPS_AVX512 1
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define ISA avx512
#define REGISTER_BYTES 64
#include "precision.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif

enum { ISA_BASELINE = 0, ISA_AVX2 = 1, ISA_AVX512 = 2, ISA_COUNT = 3 };
static const char *const ISA_NAMES[] = {"baseline", "avx2", "avx512"};

static int isa_usable(int isa) {
    if (isa == ISA_BASELINE) return 1;
#ifdef KERNELOPS_X86
    if (isa == ISA_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef KERNELOPS_AVX512
    if (isa == ISA_AVX512)
        return isa_usable(ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}

static const machine *isa_machine(int isa) {
#ifdef KERNELOPS_X86
    if (isa == ISA_AVX2) return &machine_of_avx2;
#endif
#ifdef KERNELOPS_AVX512
    if (isa == ISA_AVX512) return &machine_of_avx512;
#endif
    (void)isa;
    return &machine_of_baseline;
}

/* How a thread rounds, and what it does with numbers below the normal ones, is as the C standard begins while pieces run,
 * whatever their caller has set and whatever was set when a thread was made: so a result is the same to the bit in all
 * threads. With `flush` results too small for a normal number become 0: they take a hundred times as long as others, and
 * there are many where a kernel has decayed. Returns what restore_mode needs. */
static inline uint64_t set_mode(int flush) {
    uint64_t before = 0;
#if defined(KERNELOPS_X86)
    before = _mm_getcsr();
    _mm_setcsr(flush ? 0x9f80 : 0x1f80);
#elif defined(__aarch64__) && defined(KERNELOPS_VECTORS)
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)(flush ? 1u << 24 : 0)));
#else
    (void)flush;
#endif
    return before;
}

static inline void restore_mode(uint64_t before) {
#if defined(KERNELOPS_X86)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__) && defined(KERNELOPS_VECTORS)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

typedef struct {
    region pieces;
    piece what;
    const job *w;
    char *scratch;
    int64_t bytes;
} shared_pieces;

static void run_shared(const region *pieces, int64_t item, int seat) {
    const shared_pieces *s = (const shared_pieces *)pieces;
    const uint64_t before = set_mode(s->w->flush);
    s->what(s->w, item, s->scratch + seat * s->bytes);
    restore_mode(before);
}

/* Pieces first .. last-1, spread over the threads; each thread has its own scratch. */
static void run_pieces(piece what, const job *w, int64_t first, int64_t last, int threads, char *scratch, int64_t bytes) {
    if (threads <= 1 || last - first <= 1) {
        const uint64_t before = set_mode(w->flush);
        for (int64_t item = first; item < last; item++) what(w, item, scratch);
        restore_mode(before);
        return;
    }
    shared_pieces s = {{.run = run_shared, .next = first, .last = last}, what, w, scratch, bytes};
    share_out(&s.pieces, threads);
}

#endif
