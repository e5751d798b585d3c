/* Logarithms of vectors, for one precision and one instruction set.
 *
 * x = 2^e m with m in [sqrt(1/2), sqrt(2)); with f = m - 1 and s = f/(2 + f), log(m) = 2 artanh(s) = f - s (f - R),
 * where R = 2 s^2/3 + 2 s^4/5 + ... is a polynomial in s^2 < 0.03 whose error is below 2^-6 units in the last place.
 */

#if IS_DOUBLE
#define MANTISSA 52
#define BIAS 1023
#define SMALLEST_NORMAL 0x1p-1022
#define LARGEST 0x1.fffffffffffffp1023
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#else
#define MANTISSA 23
#define BIAS 127
#define SMALLEST_NORMAL 0x1p-126f
#define LARGEST 0x1.fffffep127f
#define SQRT_HALF_BITS 0x3f3504f3
#endif
#define WHOLE ((T)((UBITS)1 << MANTISSA)) /* from here on there are no fractions */
#define LIFT (MANTISSA + 2)               /* 2^LIFT makes every subnormal number normal */
#define SIGN_BIT ((BITS)((UBITS)1 << (8 * sizeof(T) - 1)))

/* e, and m, for positive normal x. Anything else gives some finite e and m. */
V_INLINE V FN(split)(V x, V *m) {
    const UVBITS bits = (UVBITS)FN(bits_of)(x) - (UBITS)SQRT_HALF_BITS;
    *m = FN(of_bits)((VBITS)((bits & (((UBITS)1 << MANTISSA) - 1)) + (UBITS)SQRT_HALF_BITS));
    const VBITS biased = (VBITS)((bits + ((UBITS)BIAS << MANTISSA)) >> MANTISSA); /* e + BIAS, the low bits of a number */
    return FN(of_bits)(biased | FN(bits_of)(FN(all)(WHOLE))) - (WHOLE + BIAS);
}

V_INLINE V FN(log_of)(V x) {
    const VBITS small = MASK(x < SMALLEST_NORMAL);
    V m, e = FN(split)(FN(select)(small, x * (T)((UBITS)1 << LIFT), x), &m);
    e = e - FN(of_bits)(small & FN(bits_of)(FN(all)(LIFT)));
    const V f = m - 1, s = f / (m + 1), z = s * s;
#if IS_DOUBLE
    V R = FN(all)(0.14795969106212703);
    R = R * z + 0.15314048689786294;
    R = R * z + 0.1818356439631235;
    R = R * z + 0.2222219857186974;
    R = R * z + 0.28571428742400334;
    R = R * z + 0.3999999999941462;
    R = (R * z + 0.6666666666666734) * z;
    V value = e * 6.93147180369123816490e-01 + (f - (s * (f - R) - e * 1.90821492927058770002e-10));
#else
    V R = FN(all)(0.29871746376672054f);
    R = R * z + 0.3997754091627784f;
    R = (R * z + 0.666667763866013f) * z;
    V value = e * 0.693359375f + (f - (s * (f - R) - e * -2.12194440054690583e-4f));
#endif
    value = FN(select)(MASK(x <= LARGEST), value, x);
    value = FN(select)(MASK(x == 0), FN(all)(-(T)INFINITY), value);
    return FN(of_bits)(FN(bits_of)(value) | MASK(x < 0)); /* all bits: nan */
}

#if !IS_DOUBLE
/* Vectors of float as one or two of double. */
#define WIDE(name) JOIN(name, f64, ISA)
typedef WIDE(vector) FN(wide_vector);
enum { FN(WIDE_PARTS) = sizeof(T) * LANES == REGISTER_BYTES ? 2 : 1 };

V_INLINE void FN(widen)(V v, FN(wide_vector) wide[FN(WIDE_PARTS)]) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    wide[0] = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    wide[1] = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
#elif REGISTER_BYTES == 32 && defined(KERNELOPS_X86)
    wide[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    wide[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
#elif defined(KERNELOPS_X86)
    wide[0] = _mm_cvtps_pd(v);
    wide[1] = _mm_cvtps_pd(_mm_movehl_ps(v, v));
#elif defined(KERNELOPS_VECTORS)
    typedef T half __attribute__((vector_size(REGISTER_BYTES / 2)));
    half halves[2];
    memcpy(halves, &v, sizeof v);
    for (int k = 0; k < 2; k++) wide[k] = __builtin_convertvector(halves[k], FN(wide_vector));
#else
    wide[0] = v;
#endif
}

V_INLINE V FN(narrow)(const FN(wide_vector) wide[FN(WIDE_PARTS)]) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(wide[0])), _mm512_cvtpd_ps(wide[1]), 1);
#elif REGISTER_BYTES == 32 && defined(KERNELOPS_X86)
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(wide[0])), _mm256_cvtpd_ps(wide[1]), 1);
#elif defined(KERNELOPS_X86)
    return _mm_movelh_ps(_mm_cvtpd_ps(wide[0]), _mm_cvtpd_ps(wide[1]));
#elif defined(KERNELOPS_VECTORS)
    typedef T half __attribute__((vector_size(REGISTER_BYTES / 2)));
    const half halves[2] = {__builtin_convertvector(wide[0], half), __builtin_convertvector(wide[1], half)};
    V v;
    memcpy(&v, halves, sizeof v);
    return v;
#else
    return (V)wide[0];
#endif
}
#endif
