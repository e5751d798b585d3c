/* Numbers of two floats, about 48 bits, for GPUs whose arithmetic in double is slow: hi + lo, hi being the float nearest to
 * the sum, or next to it. The value table is computed with them where a kernel's T is twofloat.
 *
 * The error-free transformations are Dekker's (Numer. Math. 18, 1971) and Knuth's (TAOCP 2, 4.2.2), with fma for products;
 * the algorithms are numbered as in Joldes, Muller and Popescu, ACM TOMS 44 (2017). With u = 2^-24, relative to the result
 * but for sums, whose errors are relative to |a| + |b|: 3 u^2 for a + b, 5 u^2 for a b and square roots, 10 u^2 for a / b.
 * A difference of two floats is exact. Products are written __fmul_rn: a compiler may put others into an fma.
 *
 * Range. Anything that leaves the range in which this holds becomes NaN, or is infinite and becomes NaN at the next step:
 * arrays' numbers beyond 2^-40 .. 2^40 (but 0; those of a double may be smaller), what is beyond float, divisors below
 * 2^-60. Nothing becomes finite again: comparisons would, and programs that have some are for double. So a result that is
 * not finite is computed again in double, which says what it is; and so is one that is small because the vector that is
 * summed is, so that its numbers lose bits at the lower end of float's range (leaves_range, vector_is_small).
 */
#ifndef KERNELOPS_TWOFLOAT_CUH
#define KERNELOPS_TWOFLOAT_CUH

#include "ops.cuh"

namespace kernelops {

KERNELOPS_DEVICE float not_a_number() { return __int_as_float(0x7fffffff); }

struct alignas(8) twofloat {
    float hi, lo;
    twofloat() = default;
    KERNELOPS_MEMBER twofloat(float hi, float lo) : hi(hi), lo(lo) {}
    KERNELOPS_MEMBER twofloat(int a) : hi((float)a), lo(0.0f) {} /* a small one: 0, 1, -1 */
    KERNELOPS_MEMBER explicit twofloat(float a) : hi(a), lo(0.0f) {
        const float size = fabsf(a);
        if (a != 0.0f && !(size >= 0x1p-40f && size <= 0x1p40f)) hi = not_a_number();
    }
    KERNELOPS_MEMBER explicit twofloat(half a) : hi((float)a), lo(0.0f) {}
    KERNELOPS_MEMBER explicit twofloat(double a) : hi((float)a), lo((float)(a - (double)hi)) {
        if (!(fabs(a) <= 0x1p40)) hi = not_a_number();
    }
    KERNELOPS_MEMBER explicit operator double() const { return (double)hi + (double)lo; }
    KERNELOPS_MEMBER explicit operator float() const { return hi + lo; }
};

/* ---- error-free transformations ------------------------------------------------------------------------------------ */

/* a + b, for |a| >= |b| or a = 0 (Dekker) */
KERNELOPS_DEVICE twofloat quick_sum(float a, float b) {
    const float sum = a + b;
    return {sum, b - (sum - a)};
}
/* a + b (Knuth) */
KERNELOPS_DEVICE twofloat exact_sum(float a, float b) {
    const float sum = a + b, b_in_sum = sum - a;
    return {sum, (a - (sum - b_in_sum)) + (b - b_in_sum)};
}
/* a b */
KERNELOPS_DEVICE twofloat exact_product(float a, float b) {
    const float product = __fmul_rn(a, b);
    return {product, __fmaf_rn(a, b, -product)};
}

/* ---- operators ----------------------------------------------------------------------------------------------------- */

KERNELOPS_DEVICE twofloat operator-(twofloat a) { return {-a.hi, -a.lo}; }

/* Algorithm 5. Where a and b cancel, the error is u^2 of these, of which as much is uncertain unless they are floats. */
KERNELOPS_DEVICE twofloat operator+(twofloat a, twofloat b) {
    const twofloat sum = exact_sum(a.hi, b.hi);
    return quick_sum(sum.hi, sum.lo + (a.lo + b.lo));
}
KERNELOPS_DEVICE twofloat operator-(twofloat a, twofloat b) { return a + -b; }

/* Algorithm 11 */
KERNELOPS_DEVICE twofloat operator*(twofloat a, twofloat b) {
    const twofloat product = exact_product(a.hi, b.hi);
    return quick_sum(product.hi, product.lo + __fmaf_rn(a.lo, b.hi, __fmul_rn(a.hi, b.lo)));
}

/* 1/a, rounded or nearly so: a step of Newton's from one that is 1 unit in the last place off, or 2. NaN where a quotient
 * might leave the range. */
KERNELOPS_DEVICE float nearly_inverse(float a) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(a));
    const float size = fabsf(a), better = __fmaf_rn(inverse, __fmaf_rn(-a, inverse, 1.0f), inverse);
    return size >= 0x1p-60f && size <= 0x1p100f ? better : not_a_number();
}

/* As algorithm 17, but the first quotient is a product with the inverse, as is that of what is left of a. */
KERNELOPS_DEVICE twofloat operator/(twofloat a, twofloat b) {
    const float inverse = nearly_inverse(b.hi), first = __fmul_rn(a.hi, inverse);
    const float left = __fmaf_rn(-first, b.hi, a.hi) + __fmaf_rn(-first, b.lo, a.lo);
    return quick_sum(first, __fmul_rn(left, inverse));
}

KERNELOPS_DEVICE twofloat &operator+=(twofloat &a, twofloat b) { return a = a + b; }
KERNELOPS_DEVICE twofloat &operator-=(twofloat &a, twofloat b) { return a = a - b; }
KERNELOPS_DEVICE twofloat &operator*=(twofloat &a, twofloat b) { return a = a * b; }

KERNELOPS_DEVICE bool operator==(twofloat a, twofloat b) { return a.hi == b.hi && a.lo == b.lo; }
KERNELOPS_DEVICE bool operator!=(twofloat a, twofloat b) { return !(a == b); }
KERNELOPS_DEVICE bool operator<(twofloat a, twofloat b) { return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo); }
KERNELOPS_DEVICE bool operator<=(twofloat a, twofloat b) { return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo); }
KERNELOPS_DEVICE bool operator>(twofloat a, twofloat b) { return b < a; }
KERNELOPS_DEVICE bool operator>=(twofloat a, twofloat b) { return b <= a; }

/* ---- primitives of the value table --------------------------------------------------------------------------------- */

KERNELOPS_DEVICE bool is_negative(twofloat a) { return is_negative(a.hi); }
KERNELOPS_DEVICE twofloat v_abs(twofloat a) {
    const bool negative = is_negative(a.hi);
    return {negative ? -a.hi : a.hi, negative ? -a.lo : a.lo};
}

/* c + a b, for c at least twice as large as a b; hi is not the nearest to the sum */
KERNELOPS_DEVICE twofloat larger_plus(float c, float c_lo, twofloat a, twofloat b) {
    const float product = __fmul_rn(a.hi, b.hi), sum = c + product;
    const float lost = __fmaf_rn(a.lo, b.hi, __fmaf_rn(a.hi, b.lo, __fmaf_rn(a.hi, b.hi, -product)));
    return {sum, (product - (sum - c)) + (lost + c_lo)};
}

/* 2^a, relative to it 3 u^2 and what the error of a makes; 0 below 2^-127, infinite from 2^128. a = n + f with |f| <= 1/2,
 * n from the bits of 1.5 2^23 + a, and 2^f by its series: ln(2)^k/k! for k < 8, and for k >= 8, where terms are below
 * 2^-27, a polynomial of degree 3 that is 2^-22 off at most, in float. */
KERNELOPS_DEVICE twofloat v_exp2(twofloat a) {
    const bool low = a.hi < -127.0f;
    const float within = low ? -127.0f : a.hi > 128.0f ? 128.0f : a.hi, shifted = within + 0x1.8p23f;
    const twofloat f = quick_sum(within - (shifted - 0x1.8p23f), low ? 0.0f : a.lo);
    float end = 0x1.e94348p-32f;
    end = __fmaf_rn(end, f.hi, 0x1.e54052p-28f);
    end = __fmaf_rn(end, f.hi, 0x1.b52536p-24f);
    end = __fmaf_rn(end, f.hi, 0x1.62c01ep-20f);
    twofloat power = larger_plus(0x1.ffcbfcp-17f, 0x1.622c32p-43f, {end, 0.0f}, f);
    power = larger_plus(0x1.430912p-13f, 0x1.f0d8fp-38f, power, f);
    power = larger_plus(0x1.5d87fep-10f, 0x1.e299ccp-36f, power, f);
    power = larger_plus(0x1.3b2ab6p-7f, 0x1.f749cep-32f, power, f);
    power = larger_plus(0x1.c6b08ep-5f, -0x1.1f6be8p-30f, power, f);
    power = larger_plus(0x1.ebfbep-3f, -0x1.f4e9c6p-33f, power, f);
    power = larger_plus(0x1.62e43p-1f, -0x1.05c61p-29f, power, f);
    power = larger_plus(1.0f, 0.0f, power, f);
    power = quick_sum(power.hi, power.lo);
    const float unit = __int_as_float((int)(((unsigned)__float_as_int(shifted) << 23) + 0x3f800000u)); /* 2^n, or 0 */
    return {__fmul_rn(power.hi, unit), __fmul_rn(power.lo, unit)};
}

KERNELOPS_DEVICE twofloat scale_of_exp(twofloat c) { return c * twofloat(0x1.715476p+0f, 0x1.4ae0cp-26f); }
KERNELOPS_DEVICE twofloat v_exp(twofloat a) { return v_exp2(scale_of_exp(a)); }

/* Two steps of Newton's from a float that is 2 units off at most, of which the second is that from a float s to two:
 * sqrt(a) = s + (a - s^2) / 2s */
KERNELOPS_DEVICE twofloat v_sqrt(twofloat a) {
    const float first = rsqrtf(a.hi), root = __fmul_rn(a.hi, first), half_of_inverse = __fmul_rn(0.5f, first);
    const float step = __fmaf_rn(-root, half_of_inverse, 0.5f), s = __fmaf_rn(root, step, root);
    const float left = __fmaf_rn(-s, s, a.hi) + a.lo;
    const twofloat found = quick_sum(s, __fmul_rn(left, __fmaf_rn(half_of_inverse, step, half_of_inverse)));
    return a.hi == 0.0f ? a : found;
}
/* The same: y + y (e + 3/4 e^2) / 2, e = 1 - a y^2. */
KERNELOPS_DEVICE twofloat v_rsqrt(twofloat a) {
    const float first = rsqrtf(a.hi), half_of_first = __fmul_rn(0.5f, first);
    const float y = __fmaf_rn(first, __fmaf_rn(-__fmul_rn(a.hi, first), half_of_first, 0.5f), first);
    const twofloat product = exact_product(a.hi, y);
    const float e = __fmaf_rn(-product.hi, y, 1.0f) - __fmul_rn(__fmaf_rn(a.lo, y, product.lo), y);
    const twofloat root = quick_sum(y, __fmul_rn(__fmul_rn(0.5f, y), __fmaf_rn(__fmul_rn(0.75f, e), e, e)));
    if (a.hi == 0.0f) return a;
    return {a.hi >= 0x1p-100f && a.hi <= 0x1p100f ? root.hi : not_a_number(), root.lo};
}

KERNELOPS_DEVICE twofloat v_powi(twofloat a, int m) { return power_by_squares(a, m); }

/* The rarer ones go by the functions in double. Of numbers so small that they may be nothing but rounding, none is made. */
KERNELOPS_DEVICE twofloat of_double(double a) { return {(float)a, (float)(a - (double)(float)a)}; }
KERNELOPS_DEVICE double not_small(twofloat a) {
    return fabsf(a.hi) >= 0x1p-60f ? (double)a : (double)not_a_number();
}
KERNELOPS_DEVICE twofloat v_log(twofloat a) { return of_double(log(not_small(a))); }
KERNELOPS_DEVICE twofloat v_pow(twofloat a, twofloat b) { return of_double(pow(not_small(a), (double)b)); }
KERNELOPS_DEVICE twofloat v_sin(twofloat a) { return of_double(sine((double)a)); }
KERNELOPS_DEVICE twofloat v_cos(twofloat a) { return of_double(cosine((double)a)); }
KERNELOPS_DEVICE twofloat v_tanh(twofloat a) { return of_double(tanh((double)a)); }
KERNELOPS_DEVICE twofloat v_floor(twofloat a) { return of_double(floor((double)a)); }
KERNELOPS_DEVICE twofloat v_atan2(twofloat a, twofloat b) {
    return of_double(atan2(fabsf(b.hi) >= 0x1p-60f ? (double)a : not_small(a), (double)b));
}
KERNELOPS_DEVICE twofloat v_sinc(twofloat a, int m) { return of_double(v_sinc((double)a, m)); }

/* ---- what is to be computed again in double ------------------------------------------------------------------------ */

/* 0: a result stands as it is; 1: it does not; 2: only if the vector that is summed is not small. */
KERNELOPS_DEVICE int leaves_range(double result) {
    return !(fabs(result) <= 0x1p120) ? 1 : fabs(result) < 0x1p-60 ? 2 : 0;
}

/* Whether components [from, to) of a vector of n are small, all of them, but not all 0. By all threads of a block. */
template <int BLOCK, class A>
KERNELOPS_DEVICE bool vector_is_small(const A *vector, i64 step, i64 component, int from, int to, i64 n) {
    bool something = false;
    for (i64 first = 0; first < n; first += BLOCK) {
        int found = 0;
        for (int q = from; q < to && first + threadIdx.x < n; q++) {
            const double size = fabs((double)vector[(first + threadIdx.x) * step + q * component]);
            found |= size >= 0x1p-40 ? 2 : size > 0.0 ? 1 : 0;
        }
        if (__syncthreads_or(found & 2)) return false;
        something = __syncthreads_or(found) || something;
    }
    return something;
}

} // namespace kernelops

#endif
