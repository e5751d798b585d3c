/* The value table of the tile engine (ops.h, read as it stands) as device functions: op::Exp(a), op::Pow<3>(a), ...
 *
 * Below are the primitives that it is written with. In float they are those of CUDA's library, at most 2 units in the last
 * place off (4 for powers), without -use_fast_math; sin and cos are those of trig.cuh. SinXDivX takes many instructions.
 */
#ifndef KERNELOPS_OPS_CUH
#define KERNELOPS_OPS_CUH

#include "ops.h"
#include "trig.cuh"

namespace kernelops {

KERNELOPS_DEVICE float v_exp(float a) { return expf(a); }
KERNELOPS_DEVICE double v_exp(double a) { return exp(a); }
KERNELOPS_DEVICE float v_log(float a) { return logf(a); }
KERNELOPS_DEVICE double v_log(double a) { return log(a); }
KERNELOPS_DEVICE float v_sqrt(float a) { return sqrtf(a); }
KERNELOPS_DEVICE double v_sqrt(double a) { return sqrt(a); }
KERNELOPS_DEVICE float v_rsqrt(float a) { return a == 0.0f ? 0.0f : rsqrtf(a); }
KERNELOPS_DEVICE double v_rsqrt(double a) { return a == 0.0 ? 0.0 : 1.0 / sqrt(a); }
template <class T> KERNELOPS_DEVICE T v_sin(T a) { return sine(a); }
template <class T> KERNELOPS_DEVICE T v_cos(T a) { return cosine(a); }
KERNELOPS_DEVICE float v_pow(float a, float b) { return powf(a, b); }
KERNELOPS_DEVICE double v_pow(double a, double b) { return pow(a, b); }

KERNELOPS_DEVICE float v_floor(float a) { return floorf(a); }
KERNELOPS_DEVICE double v_floor(double a) { return floor(a); }
KERNELOPS_DEVICE float v_tanh(float a) { return tanhf(a); }
KERNELOPS_DEVICE double v_tanh(double a) { return tanh(a); }
KERNELOPS_DEVICE float v_atan2(float a, float b) { return atan2f(a, b); }
KERNELOPS_DEVICE double v_atan2(double a, double b) { return atan2(a, b); }

/* 2^a: in float one instruction of the processor; results too small for a normal number are 0. */
KERNELOPS_DEVICE float v_exp2(float a) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(a));
    return power;
}
KERNELOPS_DEVICE double v_exp2(double a) { return exp2(a); }

/* c log2(e), so that exp(a c) is v_exp2(a scale): the rounding of this product is like that of a c. Where it leaves the range
 * of T and c does not, it is the largest number, because an infinite one would make 0 times it a NaN. */
KERNELOPS_DEVICE float scale_of_exp(float c) {
    const double wanted = (double)c * 1.4426950408889634074, most = 3.4028234663852886e38;
    return is_finite(c) ? (float)(wanted > most ? most : wanted < -most ? -most : wanted) : c;
}
KERNELOPS_DEVICE double scale_of_exp(double c) {
    const double wanted = c * 1.4426950408889634074, most = 1.7976931348623157e308;
    return is_finite(c) ? (wanted > most ? most : wanted < -most ? -most : wanted) : c;
}

template <class T> KERNELOPS_DEVICE T power_by_squares(T a, int m) {
    T power = 1;
#pragma unroll
    for (unsigned e = m < 0 ? 0u - (unsigned)m : (unsigned)m; e; e >>= 1, a = a * a)
        if (e & 1u) power = power * a;
    return m < 0 ? (T)1 / power : power;
}

/* a^m, m a constant. In float few factors are multiplied in float, more in double, for their rounding adds up. */
KERNELOPS_DEVICE double v_powi(double a, int m) { return power_by_squares(a, m); }
KERNELOPS_DEVICE float v_powi(float a, int m) {
    return m >= -4 && m <= 4 ? power_by_squares(a, m) : (float)power_by_squares((double)a, m);
}

/* The m-th derivative s_m of sin(x)/x, as in vmath.h: away from 0 by x s_m = sin(x + m pi/2) - m s_{m-1}, near 0 by its
 * series. In double for float too. */
KERNELOPS_DEVICE double v_sinc(double x, int m) {
    if (fabs(x) <= (m > 1 ? m : 1)) {
        i64 k = ((i64)m + 1) / 2;
        double term = ((k & 1) ? -1.0 : 1.0) * ((2 * k - m) ? x : 1.0), sum = 0.0; /* (-1)^k x^(2k-m) / (2k-m)! */
#pragma unroll 1
        for (i64 step = 0; step < 40 + (i64)m; step++, k++) {
            sum += term / (double)(2 * k + 1);
            term *= -x * x / ((double)(2 * k - m + 1) * (double)(2 * k - m + 2));
        }
        return sum;
    }
    double sine, cosine;
    sine_and_cosine(x, sine, cosine);
    double s = sine / x;
#pragma unroll 1
    for (i64 order = 1; order <= m; order++) {
        const double turn = order & 1 ? cosine : sine;
        s = ((order & 2 ? -turn : turn) - (double)order * s) / x;
    }
    return s;
}
KERNELOPS_DEVICE float v_sinc(float x, int m) { return (float)v_sinc((double)x, m); }

namespace op {

#define KERNELOPS_DEFINE(name, value)                                                                                  \
    template <class T> KERNELOPS_DEVICE T name(T a) { return value; }
KERNELOPS_UNARY(KERNELOPS_DEFINE)
KERNELOPS_UNARY_VECTOR(KERNELOPS_DEFINE)
#undef KERNELOPS_DEFINE

#define KERNELOPS_DEFINE(name, value)                                                                                  \
    template <int m, class T> KERNELOPS_DEVICE T name(T a) { return value; }
KERNELOPS_UNARY_PARAM(KERNELOPS_DEFINE)
#undef KERNELOPS_DEFINE

#define KERNELOPS_DEFINE(name, value)                                                                                  \
    template <class T> KERNELOPS_DEVICE T name(T a, T b) { return value; }
KERNELOPS_BINARY(KERNELOPS_DEFINE)
#undef KERNELOPS_DEFINE

#define KERNELOPS_DEFINE(name, value)                                                                                  \
    template <class T> KERNELOPS_DEVICE T name(T a, T b, T c) { return value; }
KERNELOPS_TERNARY(KERNELOPS_DEFINE)
#undef KERNELOPS_DEFINE

/* Sums over D components, x of a row and y of a column: arrays, pointers or views. */
#define KERNELOPS_DEFINE(name, value)                                                                                  \
    template <int D, class X, class Y> KERNELOPS_DEVICE auto name(const X &x, const Y &y) {                            \
        auto sum = x[0];                                                                                               \
        sum = 0;                                                                                                       \
        _Pragma("unroll unrolled(D)") for (int k = 0; k < D; k++) {                                                    \
            const auto a = x[k], b = y[k];                                                                             \
            sum += value;                                                                                              \
        }                                                                                                              \
        return sum;                                                                                                    \
    }
KERNELOPS_DEFINE(SqDist, (a - b) * (a - b))
KERNELOPS_DEFINE(Dot, a *b)
KERNELOPS_DEFINE(L1Dist, v_abs(a - b))
#undef KERNELOPS_DEFINE

template <int D, class X, class Y, class W> KERNELOPS_DEVICE auto WeightedSqDist(const X &x, const Y &y, const W &w) {
    auto sum = x[0];
    sum = 0;
#pragma unroll unrolled(D)
    for (int k = 0; k < D; k++) sum += (x[k] - y[k]) * (x[k] - y[k]) * w[k];
    return sum;
}

} // namespace op
} // namespace kernelops

#endif
