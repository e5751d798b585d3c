/* Results in the form that a caller gets, made of what is left when all pairs are done; and of several parts of the columns,
 * each of which has left its own, added up in their order. */
#ifndef KERNELOPS_FINISH_CUH
#define KERNELOPS_FINISH_CUH

#include "reduce.cuh"

namespace kernelops {

/* ---- one row ------------------------------------------------------------------------------------------------------- */

/* log of a sum of exponentials that were measured from top */
KERNELOPS_DEVICE double log_of(double sum, double top) { return log(sum) + reference(top); }

/* sum / total, where total is that of the weights; 0 for a row that meets nothing */
KERNELOPS_DEVICE double mean_of(double sum, double total, double top) {
    return total == 0.0 && !(top > -infinity<double>()) ? 0.0 : sum / total;
}

/* ---- the parts of a row -------------------------------------------------------------------------------------------- */

/* The largest exponent of a row over all parts. */
KERNELOPS_DEVICE double top_of_parts(const double *maxima, i64 row, i64 parts, i64 rows) {
    double top = -infinity<double>();
    for (i64 part = 0; part < parts; part++) {
        const double here = maxima[part * rows + row];
        top = here > top ? here : top;
    }
    return top;
}

/* Component q of the sums of a row over all parts; exponentials (maxima are given) are measured from top. */
template <int N, bool COMPENSATED>
KERNELOPS_DEVICE double sum_of_parts(const double *sums, const double *maxima, double top, i64 row, int q, i64 parts, i64 rows) {
    double sum = 0.0, lost = 0.0;
    for (i64 part = 0; part < parts; part++) {
        const i64 at = part * rows + row;
        double more = sums[at * N + q];
        if (maxima) more *= rescaled(maxima[at], top);
        if (COMPENSATED) hand_over<1>(&sum, &lost, &more);
        else sum += more;
    }
    return COMPENSATED ? compensated(sum, lost) : sum;
}

template <int N, bool COMPENSATED, class O>
KERNELOPS_DEVICE void finish_sum(const double *sums, O *result, i64 parts, i64 rows) {
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < rows * N; at += stride)
        result[at] = (O)sum_of_parts<N, COMPENSATED>(sums, nullptr, 0.0, at / N, (int)(at % N), parts, rows);
}

template <int N, bool COMPENSATED, class O>
KERNELOPS_DEVICE void finish_log(const double *sums, const double *maxima, O *result, i64 parts, i64 rows) {
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < rows * N; at += stride) {
        const i64 row = at / N;
        const double top = top_of_parts(maxima, row, parts, rows);
        result[at] = (O)log_of(sum_of_parts<N, COMPENSATED>(sums, maxima, top, row, (int)(at % N), parts, rows), top);
    }
}

/* The last of N sums is that of the weights. */
template <int N, bool COMPENSATED, class O>
KERNELOPS_DEVICE void finish_mean(const double *sums, const double *maxima, O *result, i64 parts, i64 rows) {
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < rows * (N - 1); at += stride) {
        const i64 row = at / (N - 1);
        const double top = top_of_parts(maxima, row, parts, rows);
        const double sum = sum_of_parts<N, COMPENSATED>(sums, maxima, top, row, (int)(at % (N - 1)), parts, rows);
        result[at] = (O)mean_of(sum, sum_of_parts<N, COMPENSATED>(sums, maxima, top, row, N - 1, parts, rows), top);
    }
}

/* ---- the best values of the parts ---------------------------------------------------------------------------------- */

/* Whether value a of column i goes before value b of column j: where they are equal the lower column does. What stands
 * for no column, -1, goes after all. */
template <bool LARGEST, bool NAN_FIRST> KERNELOPS_DEVICE bool goes_before(double a, i64 i, double b, i64 j) {
    if (i < 0 || j < 0) return i >= 0;
    if (before<LARGEST, NAN_FIRST>(a, b)) return true;
    return !before<LARGEST, NAN_FIRST>(b, a) && i < j;
}

/* Shelves (parts, rows, N, K) in one (rows, K, N); values or indices may be null. Each place takes the first of all that
 * go after the place before, which is found in a part by halving. */
template <int N, int K, bool LARGEST, bool NAN_FIRST, class O>
KERNELOPS_DEVICE void finish_best(const double *values, const i64 *indices, O *out_values, i64 *out_indices, i64 parts, i64 rows) {
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 shelf = (i64)blockIdx.x * blockDim.x + threadIdx.x; shelf < rows * N; shelf += stride) {
        const double none = LARGEST ? -infinity<double>() : infinity<double>();
        double last = 0.0;
        i64 last_index = -1;
#pragma unroll 1
        for (int k = 0; k < K; k++) {
            double found = none;
            i64 index = -1;
            for (i64 part = 0; part < parts && (k == 0 || last_index >= 0); part++) {
                const i64 start = (part * rows * N + shelf) * K;
                int low = 0, high = k; /* of each part at most k have been taken */
                while (low < high) {
                    const int middle = (low + high) / 2;
                    const i64 at = start + middle;
                    if (goes_before<LARGEST, NAN_FIRST>(last, last_index, values[at], indices[at])) high = middle;
                    else low = middle + 1;
                }
                const double offered = values[start + low];
                const i64 its_index = indices[start + low];
                if (!goes_before<LARGEST, NAN_FIRST>(offered, its_index, found, index)) continue;
                found = offered;
                index = its_index;
            }
            const i64 to = (shelf / N * K + k) * N + shelf % N;
            if (out_values) out_values[to] = (O)found;
            if (out_indices) out_indices[to] = index;
            last = found;
            last_index = index;
        }
    }
}

} // namespace kernelops

#endif
