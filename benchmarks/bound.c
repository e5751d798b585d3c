/* How fast can a Gaussian product be? sum over j of exp(-|x_i - y_j|^2) b_j as one fused loop, with the columns in the
 * first-level cache and everything else in registers.
 *
 * It shares nothing with the engine that it is held against: the formula, D and the blocking in registers are known
 * when it is compiled, on the machine that it runs on. Points come scaled by sqrt(log2(e)), so that what is wanted is
 * 2^-s. Columns come packed, [group][plane][V vectors]: the planes are the D coordinates of y, b, and -|y|^2. One tile
 * of them is run over again and again, as if the columns of a long sum all lay in the cache.
 *
 * Two ways to s. DIFFERENCES: the sum of (x-y)^2, good for any data. PRODUCTS: one FMA for each coordinate gives
 * 2 x.y - |y|^2 (x comes doubled), and a row's sum is multiplied by 2^-|x|^2 afterwards; this needs points near the
 * origin.
 */
#include <immintrin.h>
#include <stdint.h>

enum { DIFFERENCES, PRODUCTS };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 128")

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#define LANES 16
typedef __m512 vec;
#define LOAD(p) _mm512_loadu_ps(p)
#define ALL(a) _mm512_set1_ps(a)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MULADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SUBMUL(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define TOTAL(a) _mm512_reduce_add_ps(a)
/* 2^t = p * 2^floor(t), which scalef makes of t as it is, tiny and huge ones too */
#define FRACTION(t) _mm512_reduce_ps(t, 0x09) /* t - floor(t) */
#define TIMES_2_TO_FLOOR(p, t) _mm512_scalef_ps(p, t)

#elif defined(__AVX2__) && defined(__FMA__)

#define LANES 8
typedef __m256 vec;
#define LOAD(p) _mm256_loadu_ps(p)
#define ALL(a) _mm256_set1_ps(a)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MULADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SUBMUL(a, b, c) _mm256_fnmadd_ps(a, b, c)

INLINE float TOTAL(vec a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

#else
#error "the bound is written for AVX-512 and for AVX2 with FMA"
#endif

/* The polynomials of degree 5 with the least relative error, 7.5e-8, over an interval of length 1. */
#if LANES == 16

INLINE vec exp2_of(vec t) {
    const vec f = FRACTION(t);
    vec p = MULADD(ALL(0x1.ec3209a194d59p-10f), f, ALL(0x1.26900cdc1a8fcp-7f));
    p = MULADD(p, f, ALL(0x1.c9544648fcd60p-5f));
    p = MULADD(p, f, ALL(0x1.ebd5a8d9ce9b3p-3f));
    p = MULADD(p, f, ALL(0x1.62e4f5a9084cbp-1f));
    return TIMES_2_TO_FLOOR(MULADD(p, f, ALL(0x1.fffffd7c4cf59p-1f)), t);
}

#else

/* t + 1.5 * 2^23 has t, rounded, in its low bits, from where it goes into the exponent of p; below -126 t is cut. */
INLINE vec exp2_of(vec t) {
    t = _mm256_max_ps(t, ALL(-126));
    const vec shifted = _mm256_add_ps(t, ALL(0x1.8p23f)), f = SUB(t, SUB(shifted, ALL(0x1.8p23f)));
    vec p = MULADD(ALL(0x1.5c08e52eb91d8p-10f), f, ALL(0x1.3d0c52ccfe08dp-7f));
    p = MULADD(p, f, ALL(0x1.c6b6e4f963c7cp-5f));
    p = MULADD(p, f, ALL(0x1.ebf9174f8fe9ep-3f));
    p = MULADD(p, f, ALL(0x1.62e428c5baaf2p-1f));
    p = MULADD(p, f, ALL(0x1.00000133c1280p+0f));
    const __m256i whole = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), whole));
}

#endif

#define ROWS_MAX 8
#define VECTORS_MAX 4

/* R rows of x, one after another, over one tile: the sums are added to out. */
INLINE void rows_by_tile(int D, int form, int R, int V, const float *x, const float *tile, int64_t groups,
                         double *out) {
    vec sums[ROWS_MAX];
    UNROLL for (int r = 0; r < R; r++) sums[r] = ALL(0);
    for (int64_t g = 0; g < groups; g++, tile += (D + 2) * V * LANES) {
        const float *b = tile + D * V * LANES, *minus_norms = b + V * LANES;
        vec t[ROWS_MAX][VECTORS_MAX]; /* arrays of known length, which the compiler keeps in registers */
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++) t[r][v] = form == PRODUCTS ? LOAD(minus_norms + v * LANES) : ALL(0);
#define COORDINATE                                                                                                     \
    UNROLL for (int r = 0; r < R; r++) {                                                                               \
        const vec xd = ALL(x[r * D + d]);                                                                              \
        UNROLL for (int v = 0; v < V; v++) {                                                                           \
            const vec y = LOAD(tile + (d * V + v) * LANES);                                                            \
            const vec a = form == PRODUCTS ? y : SUB(xd, y);                                                           \
            t[r][v] = form == PRODUCTS ? MULADD(xd, y, t[r][v]) : SUBMUL(a, a, t[r][v]);                               \
        }                                                                                                              \
    }
        if (D <= 16) {
            UNROLL for (int d = 0; d < D; d++) COORDINATE
        } else
            for (int d = 0; d < D; d++) COORDINATE
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++)
                sums[r] = MULADD(exp2_of(t[r][v]), LOAD(b + v * LANES), sums[r]);
    }
    UNROLL for (int r = 0; r < R; r++) out[r] += TOTAL(sums[r]);
}

typedef void (*body)(const float *x, const float *tile, int64_t groups, double *out);

/* Which blockings are tried: more rows share a load of y and more vectors one of x, until registers run out. */
#define BLOCKINGS(X, D, form)                                                                                          \
    X(D, form, 2, 2) X(D, form, 4, 1) X(D, form, 4, 2) X(D, form, 4, 3) X(D, form, 4, 4)                               \
    X(D, form, 8, 1) X(D, form, 8, 2) X(D, form, 8, 3)
#define VARIANTS(X)                                                                                                    \
    BLOCKINGS(X, 3, DIFFERENCES) BLOCKINGS(X, 10, DIFFERENCES) BLOCKINGS(X, 100, DIFFERENCES)                          \
    BLOCKINGS(X, 3, PRODUCTS) BLOCKINGS(X, 10, PRODUCTS) BLOCKINGS(X, 100, PRODUCTS)

#define DEFINE(D, form, R, V)                                                                                          \
    static void body_##D##_##form##_##R##_##V(const float *x, const float *tile, int64_t groups, double *out) {        \
        rows_by_tile(D, form, R, V, x, tile, groups, out);                                                             \
    }
VARIANTS(DEFINE)

#define ENTRY(D, form, R, V) {{D, form, R, V}, body_##D##_##form##_##R##_##V},
static const struct {
    int what[4];
    body run;
} table[] = {VARIANTS(ENTRY)};

int bound_lanes(void) { return LANES; }

/* D, form, R and V of variant k; 0 where there are no more. */
int bound_variant(int k, int what[4]) {
    if (k >= (int)(sizeof table / sizeof *table)) return 0;
    for (int q = 0; q < 4; q++) what[q] = table[k].what[q];
    return 1;
}

/* M rows, a multiple of R, over a tile of so many groups, so many times; the sums are added to out. */
void bound_run(int k, int threads, int64_t M, int64_t times, int64_t groups, const float *x, const float *tile,
               double *out) {
    const int D = table[k].what[0], R = table[k].what[2];
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t block = 0; block < M / R; block++)
        for (int64_t again = 0; again < times; again++) {
            table[k].run(x + block * R * D, tile, groups, out + block * R);
            __asm__ volatile("" ::: "memory"); /* a second pass is not the first one's result again */
        }
}
