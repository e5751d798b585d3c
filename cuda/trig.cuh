/* sin and cos of any number without local memory, which CUDA's own need for large arguments: |x| = n pi/2 + r with
 * |r| <= pi/4, and a polynomial of least error for sin(r) or cos(r).
 *
 * pi/2 is three numbers whose products with n are exact inside an fma. Where |x| is large, n and r come from the bits of
 * 2/pi, in whole numbers.
 */
#ifndef KERNELOPS_TRIG_CUH
#define KERNELOPS_TRIG_CUH

#include "vector.cuh"

namespace kernelops {

/* 2/pi in words of 64 bits, behind one of zeros */
static __device__ __constant__ const unsigned long long two_over_pi[] = {
    0x0ULL,                0xa2f9836e4e441529ULL, 0xfc2757d1f534ddc0ULL, 0xdb6295993c439041ULL, 0xfe5163abdebbc561ULL,
    0xb7246e3a424dd2e0ULL, 0x06492eea09d1921cULL, 0xfe1deb1cb129a73eULL, 0xe88235f52ebb4484ULL, 0xe99c7026b45f7e41ULL,
    0x3991d639835339f4ULL, 0x9c845f8bbdf9283bULL, 0x1ff897ffde05980fULL, 0xef2f118b5a0a6d1fULL, 0x6d367ecf27cb09b7ULL,
    0x4f463f669e5fea2dULL, 0x7527bac7ebe5f17bULL, 0x3d0739f78a5292eaULL, 0x6bfb5fb11f8d5d08ULL, 0x56033046fc7b6babULL,
};

/* r of a number x >= 4, and n modulo 4. x = m 2^(e - 63) with a whole m of 64 bits. Bits of 2/pi that give multiples of 4 are
 * left out, and those behind the next 192: m times these, modulo 2^192, is n and r in units of pi/2 2^-190. */
KERNELOPS_DEVICE double far_rest(double x, int &n) {
    const unsigned long long bits = (unsigned long long)__double_as_longlong(x);
    const unsigned long long m = (bits << 11) | (1ULL << 63);
    const int from = (int)(bits >> 52) - 1024, s = from & 63;
    const unsigned long long *const word = two_over_pi + (from >> 6);
    const unsigned long long w0 = word[0], w1 = word[1], w2 = word[2], w3 = word[3];
    const unsigned long long v2 = s ? w0 << s | w1 >> (64 - s) : w0, v1 = s ? w1 << s | w2 >> (64 - s) : w1;
    const unsigned long long v0 = s ? w2 << s | w3 >> (64 - s) : w2;
    unsigned long long low = __umul64hi(m, v0) + m * v1, high = __umul64hi(m, v1) + m * v2;
    high += low < m * v1; /* what is carried */
    n = (int)(high >> 62);
    high = high << 2 | low >> 62;
    low <<= 2;
    const bool more = (high >> 63) != 0; /* than a half: the next multiple is nearer */
    if (more) {
        n++;
        low = ~low; /* one too small, which is nothing */
        high = ~high;
    }
    const int zeros = __clzll((long long)high); /* fewer than 64: no number is so near to a multiple */
    const unsigned long long first = zeros ? high << zeros | low >> (64 - zeros) : high;
    /* first 2^(-64 - zeros) pi/2, first in two numbers */
    const double a = (double)(first & ~0x7ffULL), b = (double)(first & 0x7ffULL);
    const double product = a * 0x1.921fb54442d18p+0, lost = fma(a, 0x1.921fb54442d18p+0, -product);
    const double r = product + (lost + (a * 0x1.1a62633145c07p-54 + b * 0x1.921fb54442d18p+0));
    const double unit = __longlong_as_double((long long)(1023 - 64 - zeros) << 52);
    return more ? -r * unit : r * unit;
}

/* r of x >= 0, and n modulo 4 */
KERNELOPS_DEVICE double rest(double x, int &n) {
    if (!(x <= 1e9)) {
        if (!is_finite(x)) return x - x;
        return far_rest(x, n);
    }
    const double whole = rint(x * 0.6366197723675814);
    n = (int)whole;
    return fma(whole, 0x1.f1976b7ed8fbcp-110, fma(whole, -0x1.1a62633145c07p-54, fma(whole, -0x1.921fb54442d18p+0, x)));
}
KERNELOPS_DEVICE float rest(float x, int &n) {
    if (!(x <= 1e5f)) {
        if (!is_finite(x)) return x - x;
        return (float)far_rest((double)x, n);
    }
    const float whole = rintf(x * 0.63661975f);
    n = (int)whole;
    return fmaf(whole, 0x1.ee59dap-50f, fmaf(whole, 0x1.777a5cp-25f, fmaf(whole, -0x1.921fb6p+0f, x)));
}

/* for |r| <= pi/4 */
KERNELOPS_DEVICE double near_sin(double r) {
    const double z = r * r;
    double s = 1.5896795713489568e-10;
    s = fma(s, z, -2.5050758115698192e-08);
    s = fma(s, z, 2.755731369191555e-06);
    s = fma(s, z, -0.00019841269829807778);
    s = fma(s, z, 0.008333333333322413);
    s = fma(s, z, -0.16666666666666632);
    return fma(s, z * r, r);
}
KERNELOPS_DEVICE double near_cos(double r) {
    const double z = r * r;
    double c = -1.13596480422716e-11;
    c = fma(c, z, 2.0875723278132235e-09);
    c = fma(c, z, -2.7557314352372173e-07);
    c = fma(c, z, 2.480158728948234e-05);
    c = fma(c, z, -0.0013888888888874125);
    c = fma(c, z, 0.0416666666666666);
    c = fma(c, z, -0.5);
    return fma(c, z, 1.0);
}
KERNELOPS_DEVICE float near_sin(float r) {
    const float z = r * r;
    float s = -0.00019517895f;
    s = fmaf(s, z, 0.0083321873f);
    s = fmaf(s, z, -0.16666655f);
    return fmaf(s, z * r, r);
}
KERNELOPS_DEVICE float near_cos(float r) {
    const float z = r * r;
    float c = 2.4432329e-05f;
    c = fmaf(c, z, -0.0013887309f);
    c = fmaf(c, z, 0.041666646f);
    c = fmaf(c, z, -0.5f);
    return fmaf(c, z, 1.0f);
}

template <class T> KERNELOPS_DEVICE T sine(T x) {
    int n = 0;
    const T r = rest(v_abs(x), n), s = n & 1 ? near_cos(r) : near_sin(r);
    return ((n & 2) != 0) != is_negative(x) ? -s : s;
}
template <class T> KERNELOPS_DEVICE T cosine(T x) {
    int n = 0;
    const T r = rest(v_abs(x), n), c = n & 1 ? near_sin(r) : near_cos(r);
    return (n + 1) & 2 ? -c : c;
}

/* Both at once. */
template <class T> KERNELOPS_DEVICE void sine_and_cosine(T x, T &sine, T &cosine) {
    int n = 0;
    const T r = rest(v_abs(x), n), s = near_sin(r), c = near_cos(r);
    sine = n & 1 ? c : s;
    cosine = n & 1 ? s : c;
    if (((n & 2) != 0) != is_negative(x)) sine = -sine;
    if ((n + 1) & 2) cosine = -cosine;
}

} // namespace kernelops

#endif
