/* What ends a program: sums in T that are handed over to double, sums of exponentials with a running maximum, the best
 * values. The same meaning as outputs.h of the tile engine, for one row that one thread has to itself. */
#ifndef KERNELOPS_REDUCE_CUH
#define KERNELOPS_REDUCE_CUH

#include "ops.cuh"

namespace kernelops {

/* ---- sums: part += a b_q, and a (x_q - y_q), for D components; S is T, or double for wide sums -------------------- */

template <int D, class S, class T, class B> KERNELOPS_DEVICE void add_dot(S *part, T a, const B &b) {
#pragma unroll unrolled(D)
    for (int q = 0; q < D; q++) part[q] += (S)a * (S)b[q];
}

template <int D, class S, class T, class X, class Y>
KERNELOPS_DEVICE void add_diff(S *part, T a, const X &x, const Y &y) {
#pragma unroll unrolled(D)
    for (int q = 0; q < D; q++) part[q] += (S)a * (S)(x[q] - y[q]);
}

/* The same of those components that a chunk of C has: component q of the vector is number first + q of the chunk. */
template <int D, int C, class S, class T, class B>
KERNELOPS_DEVICE void add_dot_within(S *part, int first, T a, const B &b) {
#pragma unroll
    for (int q = 0; q < D; q++)
        if (first + q >= 0 && first + q < C) part[first + q] += (S)a * (S)b[q];
}

template <int D, int C, class S, class T, class X, class Y>
KERNELOPS_DEVICE void add_diff_within(S *part, int first, T a, const X &x, const Y &y) {
#pragma unroll
    for (int q = 0; q < D; q++)
        if (first + q >= 0 && first + q < C) part[first + q] += (S)a * (S)(x[q] - y[q]);
}

/* What is in part goes over to double, and part begins again at 0. */
template <int D, class S> KERNELOPS_DEVICE void hand_over(double *sum, S *part) {
#pragma unroll unrolled(D)
    for (int q = 0; q < D; q++) {
        sum[q] += (double)part[q];
        part[q] = 0;
    }
}

/* The same compensated (Neumaier): lost is what the larger of two summands drops of the smaller. */
template <int D, class S> KERNELOPS_DEVICE void hand_over(double *sum, double *lost, S *part) {
#pragma unroll unrolled(D)
    for (int q = 0; q < D; q++) {
        const double before = sum[q], more = (double)part[q], after = before + more;
        lost[q] += fabs(before) >= fabs(more) ? (before - after) + more : (more - after) + before;
        sum[q] = after;
        part[q] = 0;
    }
}

/* A sum that is inf or nan has nothing that could be given back. */
KERNELOPS_DEVICE double compensated(double sum, double lost) { return sum + (is_finite(lost) ? lost : 0.0); }

/* ---- sums of exponentials ------------------------------------------------------------------------------------------ */

/* An infinite maximum is no reference: then 0 is, and exp gives 0 or inf as it should. */
template <class T> KERNELOPS_DEVICE T reference(T top) { return is_finite(top) ? top : (T)0; }

/* By what a sum is multiplied that was made with an older maximum: 1 where there was none yet. */
template <class T> KERNELOPS_DEVICE T rescaled(T old, T now) {
    return old == -infinity<T>() ? (T)1 : v_exp(reference(old) - reference(now));
}

/* exp(v - top) once top is at least v; the sums in part are rescaled where it grew. A NaN does not count in top. */
template <int D, class S, class T> KERNELOPS_DEVICE T shifted_exp(T v, T &top, S *part) {
    if (v > top) {
        const S scale = rescaled((S)top, (S)v);
#pragma unroll unrolled(D)
        for (int q = 0; q < D; q++) part[q] *= scale;
        top = v;
    }
    /* v - top may have been made from a v that was not rounded: not by much, but in units of top */
    const T below = v - reference(top), bound = top < infinity<T>() ? (T)0 : infinity<T>();
    return v_exp2((below > bound ? bound : below) * (T)1.4426950408889634074);
}

/* Sums that were made with the maximum `old` are rescaled to `now`. */
template <int D> KERNELOPS_DEVICE void rescale(double *sum, double old, double now) {
    if (!(now > old)) return;
    const double scale = rescaled(old, now);
#pragma unroll unrolled(D)
    for (int q = 0; q < D; q++) sum[q] *= scale;
}

/* ---- the best values ----------------------------------------------------------------------------------------------- */

/* Whether value a goes before b: NaN before everything for one best value (it propagates, as in torch), after everything
 * for the K smallest or largest (where torch.topk puts it). */
template <bool LARGEST, bool NAN_FIRST, class V> KERNELOPS_DEVICE bool before(V a, V b) {
    if (a != a || b != b) return NAN_FIRST ? (a != a && b == b) : (a == a && b != b);
    return LARGEST ? a > b : a < b;
}

template <int K, bool LARGEST, class V> KERNELOPS_DEVICE void clear_shelf(V *values, i64 *indices) {
#pragma unroll unrolled(K)
    for (int at = 0; at < K; at++) {
        values[at] = LARGEST ? -infinity<V>() : infinity<V>();
        indices[at] = -1;
    }
}

/* a is kept if it is among the K best so far; ties stay where they are. */
template <int K, bool LARGEST, bool NAN_FIRST, class V> KERNELOPS_DEVICE void offer(V *values, i64 *indices, V a, i64 index) {
    if (indices[K - 1] >= 0 && !before<LARGEST, NAN_FIRST>(a, values[K - 1])) return;
    bool moving = true; /* a is to stand in front of all that were looked at */
#pragma unroll
    for (int at = K - 1; at > 0; at--) {
        const bool stays = indices[at - 1] >= 0 && !before<LARGEST, NAN_FIRST>(a, values[at - 1]);
        if (moving) {
            values[at] = stays ? a : values[at - 1];
            indices[at] = stays ? index : indices[at - 1];
        }
        moving = moving && !stays;
    }
    if (moving) {
        values[0] = a;
        indices[0] = index;
    }
}

/* The same for a shelf that is too long for registers and stands in the results themselves. */
template <int K, bool LARGEST, bool NAN_FIRST> KERNELOPS_DEVICE void offer_long(double *values, i64 *indices, double a, i64 index) {
    int at = K - 1;
    if (indices[at] >= 0 && !before<LARGEST, NAN_FIRST>(a, values[at])) return;
#pragma unroll 1
    for (; at > 0 && (indices[at - 1] < 0 || before<LARGEST, NAN_FIRST>(a, values[at - 1])); at--) {
        values[at] = values[at - 1];
        indices[at] = indices[at - 1];
    }
    values[at] = a;
    indices[at] = index;
}

} // namespace kernelops

#endif
