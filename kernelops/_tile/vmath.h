/* What stays scalar: functions with branches, called one number at a time. */
#ifndef KERNELOPS_VMATH_H
#define KERNELOPS_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define V_INLINE static inline __attribute__((always_inline))
#define V_ALONE __attribute__((noinline))
#define V_COLD __attribute__((noinline, cold))
#define PREFETCH(at) __builtin_prefetch(at)
#else
#define V_INLINE static inline
#define V_ALONE
#define V_COLD
#define PREFETCH(at) (void)(at)
#endif

/* A number of an array, which may lie at any address. */
static inline double double_at(const char *at) {
    double value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline float float_at(const char *at) {
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The m-th derivative s_m of sin(x)/x.  Away from 0 by x s_m = sin(x + m pi/2) - m s_{m-1}, which magnifies errors by
 * m/|x| a step, hence only where |x| > m; near 0 by the series sum (-1)^k x^(2k-m) / ((2k+1) (2k-m)!) over 2k >= m. */
static double v_sinc_f64(double x, int m) {
    if (fabs(x) <= (m > 1 ? m : 1)) {
        int64_t k = ((int64_t)m + 1) / 2;
        double term = ((k & 1) ? -1.0 : 1.0) * ((2 * k - m) ? x : 1.0); /* (-1)^k x^(2k-m) / (2k-m)! */
        double sum = 0.0;
        for (int64_t step = 0; step < 40 + (int64_t)m; step++, k++) {
            sum += term / (double)(2 * k + 1);
            term *= -x * x / ((double)(2 * k - m + 1) * (double)(2 * k - m + 2));
        }
        return sum;
    }
    const double turns[4] = {sin(x), cos(x), -sin(x), -cos(x)};
    double s = turns[0] / x;
    for (int64_t order = 1; order <= m; order++) s = (turns[order & 3] - (double)order * s) / x;
    return s;
}

#endif
