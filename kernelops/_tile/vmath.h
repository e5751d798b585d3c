/* Elementary functions written without branches or tables, so that a loop over them becomes SIMD code under any
 * instruction set. The same text serves every instruction set: -ffp-contract=fast fuses where the machine can.
 *
 * exp: x = n ln 2 + r with |r| <= ln(2)/2, ln 2 split in two so that n ln2_hi is exact; exp(r) by its Taylor series,
 *   whose first left-out term is below a tenth of an ulp (r^8/8! < 6e-9, r^14/14! < 5e-18); the factor 2^n is applied
 *   in two halves, so that results in the subnormal range and just below overflow come out right.
 * log: x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); with s = f/(2 + f), log(1 + f) = 2 artanh(s)
 *   = f - s (f - R), R = 2 s^2/3 + 2 s^4/5 + ..., |s| < 0.172.
 */
#ifndef KERNELOPS_VMATH_H
#define KERNELOPS_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define V_INLINE static inline __attribute__((always_inline))
#else
#define V_INLINE static inline
#endif

V_INLINE float v_float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
V_INLINE int32_t v_bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
V_INLINE double v_double_of(int64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
V_INLINE int64_t v_bits_of_double(double x) {
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

V_INLINE double v_exp_f64(double x) {
    x = x > 711.0 ? 711.0 : x;
    x = x < -747.0 ? -747.0 : x;
    const double shifted = x * 1.4426950408889634074 + 6755399441055744.0; /* 1.5 * 2^52 */
    const double n = shifted - 6755399441055744.0;
    double r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    const int64_t whole = v_bits_of_double(shifted) - v_bits_of_double(6755399441055744.0);
    const int64_t half = whole / 2; /* arithmetic shifts of 64 bits are no SIMD instruction before AVX-512 */
    return p * v_double_of((half + 1023) << 52) * v_double_of((whole - half + 1023) << 52);
}

V_INLINE float v_log_f32(float x) {
    const int small = x < 1.17549435e-38f; /* subnormal: scaled up by 2^25 */
    const float y = small ? x * 33554432.0f : x;
    const int32_t bits = v_bits_of(y) - 0x3f3504f3; /* minus the bits of sqrt(1/2) */
    const int32_t e = bits >> 23;
    const float m = v_float_of((bits & 0x007fffff) + 0x3f3504f3);
    const float f = m - 1.0f, s = f / (2.0f + f), z = s * s;
    float R = 2.0f / 11.0f;
    R = R * z + 2.0f / 9.0f;
    R = R * z + 2.0f / 7.0f;
    R = R * z + 2.0f / 5.0f;
    R = (R * z + 2.0f / 3.0f) * z;
    const float k = (float)e - (small ? 25.0f : 0.0f);
    float value = k * 0.693359375f + (f - (s * (f - R) - k * -2.12194440054690583e-4f));
    value = x > 3.40282347e38f ? x : value;
    value = x == 0.0f ? -INFINITY : value;
    return x >= 0.0f ? value : NAN;
}

V_INLINE double v_log_f64(double x) {
    const int small = x < 2.2250738585072014e-308; /* subnormal: scaled up by 2^54 */
    const double y = small ? x * 18014398509481984.0 : x;
    const int64_t bits = v_bits_of_double(y) - 0x3fe6a09e667f3bcdLL;
    const int64_t low = (bits & 0x000fffffffffffffLL) + 0x3fe6a09e667f3bcdLL;
    const int32_t e = (int32_t)(bits >> 32) >> 20;
    const double f = v_double_of(low) - 1.0, s = f / (2.0 + f), z = s * s;
    double R = 2.0 / 23.0;
    R = R * z + 2.0 / 21.0;
    R = R * z + 2.0 / 19.0;
    R = R * z + 2.0 / 17.0;
    R = R * z + 2.0 / 15.0;
    R = R * z + 2.0 / 13.0;
    R = R * z + 2.0 / 11.0;
    R = R * z + 2.0 / 9.0;
    R = R * z + 2.0 / 7.0;
    R = R * z + 2.0 / 5.0;
    R = (R * z + 2.0 / 3.0) * z;
    const double k = (double)e - (small ? 54.0 : 0.0);
    double value = k * 6.93147180369123816490e-01 + (f - (s * (f - R) - k * 1.90821492927058770002e-10));
    value = x > 1.7976931348623157e308 ? x : value;
    value = x == 0.0 ? -INFINITY : value;
    return x >= 0.0 ? value : NAN;
}

V_INLINE double v_powi_f64(double x, int m) {
    double power = 1.0;
#pragma GCC unroll 3
    for (unsigned e = m < 0 ? 0u - (unsigned)m : (unsigned)m; e; e >>= 1, x *= x)
        if (e & 1u) power *= x;
    return m < 0 ? 1.0 / power : power;
}

/* The m-th derivative s_m of sin(x)/x.  Away from 0 by x s_m = sin(x + m pi/2) - m s_{m-1}, which magnifies errors by
 * m/|x| a step, hence only where |x| > m; near 0 by the series sum (-1)^k x^(2k-m) / ((2k+1) (2k-m)!) over 2k >= m. */
static double v_sinc_f64(double x, int m) {
    if (fabs(x) <= (m > 1 ? m : 1)) {
        int k = (m + 1) / 2;
        double term = ((k & 1) ? -1.0 : 1.0) * ((2 * k - m) ? x : 1.0); /* (-1)^k x^(2k-m) / (2k-m)! */
        double sum = 0.0;
        for (int step = 0; step < 40 + m; step++, k++) {
            sum += term / (2 * k + 1);
            term *= -x * x / ((2.0 * k - m + 1) * (2.0 * k - m + 2));
        }
        return sum;
    }
    const double turns[4] = {sin(x), cos(x), -sin(x), -cos(x)};
    double s = turns[0] / x;
    for (int order = 1; order <= m; order++) s = (turns[order & 3] - order * s) / x;
    return s;
}

#endif
