/* Contractions of long vectors for a rectangle of pairs: components of a block's rows and columns stand in shared memory, some
 * at a time, and each thread adds them up for a few rows by a few columns of its own. A row's results are then those of LANES
 * neighbouring threads, put together at the end. */
#ifndef KERNELOPS_TILES_CUH
#define KERNELOPS_TILES_CUH

#include "reduce.cuh"

namespace kernelops {

/* What a component of a row and of a column adds to a contraction; w is its weight, for those that have one. */
namespace adds {
struct SqDist {
    template <class T> static KERNELOPS_MEMBER T of(T sum, T a, T b, T) { return sum + (a - b) * (a - b); }
};
struct Dot {
    template <class T> static KERNELOPS_MEMBER T of(T sum, T a, T b, T) { return sum + a * b; }
};
struct L1Dist {
    template <class T> static KERNELOPS_MEMBER T of(T sum, T a, T b, T) { return sum + v_abs(a - b); }
};
struct WeightedSqDist {
    template <class T> static KERNELOPS_MEMBER T of(T sum, T a, T b, T w) { return sum + (a - b) * (a - b) * w; }
};
} // namespace adds

/* DEPTH components, or as many as are left, of some vectors that begin at start, to where a component has its numbers side by
 * side: components are STRIDE apart there. A thread keeps to one component. */
template <int BLOCK, int DEPTH, int STRIDE, class T, class A>
KERNELOPS_DEVICE void load_components(T *part, const A *start, i64 vector, i64 component, int vectors, int left) {
    const int k = (int)threadIdx.x % DEPTH;
    if (k >= left) return;
    const A *from = start + k * component + (i64)(threadIdx.x / DEPTH) * vector;
#pragma unroll 4
    for (int at = (int)threadIdx.x / DEPTH; at < vectors; at += BLOCK / DEPTH, from += BLOCK / DEPTH * vector)
        part[k * STRIDE + at] = (T)*from;
}

/* Column b of a thread's: packs of 16 bytes of neighbouring threads lie side by side. */
template <int LANES, class T> KERNELOPS_DEVICE int column_of(int b) {
    constexpr int pack = 16 / sizeof(T);
    return b / pack * (LANES * pack) + (int)(threadIdx.x % LANES) * pack + b % pack;
}

/* K components of ROWS rows from x, of COLUMNS columns from y (where column_of says), with weights from w. Components are
 * X and Y numbers apart. */
template <class Add, int K, int LANES, int X, int Y, int ROWS, int COLUMNS, class T>
KERNELOPS_DEVICE void contract(T (&sums)[ROWS][COLUMNS][1], const T *x, const T *y, const T *w) {
    constexpr int pack = 16 / sizeof(T);
#pragma unroll 2
    for (int k = 0; k < K; k++) {
        T a[ROWS], b[COLUMNS];
        load_column<ROWS>(a, x + k * X);
#pragma unroll
        for (int at = 0; at < COLUMNS; at += pack) load_column<pack>(b + at, y + k * Y + at * LANES);
        const T weight = w ? w[k] : (T)1;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sums[r][c][0] = Add::of(sums[r][c][0], a[r], b[c], weight);
    }
}

/* ---- results of neighbouring threads ------------------------------------------------------------------------------- */

template <int LANES, class T> KERNELOPS_DEVICE T top_of_lanes(T top) {
#pragma unroll
    for (int by = LANES / 2; by; by /= 2) {
        const T other = __shfl_xor_sync(0xffffffff, top, by);
        top = other > top ? other : top;
    }
    return top;
}

template <int LANES, int N> KERNELOPS_DEVICE void sum_lanes(double *sum) {
#pragma unroll
    for (int q = 0; q < N; q++)
#pragma unroll
        for (int by = LANES / 2; by; by /= 2) sum[q] += __shfl_xor_sync(0xffffffff, sum[q], by);
}

/* The same of compensated sums. */
template <int LANES, int N> KERNELOPS_DEVICE void sum_lanes(double *sum, double *lost) {
#pragma unroll
    for (int q = 0; q < N; q++)
#pragma unroll
        for (int by = LANES / 2; by; by /= 2) {
            double more = __shfl_xor_sync(0xffffffff, sum[q], by);
            const double lost_too = __shfl_xor_sync(0xffffffff, lost[q], by);
            hand_over<1>(sum + q, lost + q, &more);
            lost[q] += lost_too;
        }
}

} // namespace kernelops

#endif
