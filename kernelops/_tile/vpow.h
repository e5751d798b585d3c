/* Powers of vectors, for one precision and one instruction set.
 *
 * a^b = exp(b log a). A result has as many wrong digits as the exponent b log a has before its point more than log a has
 * beyond those of T. So in float all is done in double; in double log a and its product with b are unevaluated sums of
 * two numbers, log a being right to 2^-66 of itself. Signs, 0, infinity and nan are set right afterwards, as C99 has it,
 * for registers in which there are any.
 */

#if IS_DOUBLE
#define ROUND 6755399441055744.0 /* 1.5 * 2^52: to integers */

/* v 2^n, n a whole number between -1080 and 1025; before AVX-512 in two factors, so that subnormal results are right. */
V_INLINE V FN(scaled)(V v, V n) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    return MM(scalef)(v, n);
#else
    const V shifted = n * 0.5 + (ROUND + BIAS), rest = (n - (shifted - (ROUND + BIAS))) + (ROUND + BIAS);
    return v * FN(of_bits)(FN(raised)(FN(bits_of)(shifted), MANTISSA)) * FN(of_bits)(FN(raised)(FN(bits_of)(rest), MANTISSA));
#endif
}

/* a^b for a > 0, right to float; some number for other a */
V_INLINE V FN(short_power)(V a, V b) {
    V m;
    const V e = FN(split)(a, &m), s = (m - 1) / (m + 1), z = s * s;
    V p = FN(all)(0.340728217996446);
    p = p * z + 0.41167281631283353;
    p = p * z + 0.5770835834300216;
    p = p * z + 0.9617966733493323;
    p = p * z + 2.8853900817900806;
    const V t = FN(at_most)(FN(all)(160), FN(at_least)(FN(all)(-160), b * (p * s + e))); /* b log2 a */
    const V shifted = t + (ROUND + BIAS), r = t - (shifted - (ROUND + BIAS));
    p = FN(all)(0.0001534578672896038);
    p = p * r + 0.0013399933501095705;
    p = p * r + 0.009618489076251143;
    p = p * r + 0.055503287718708536;
    p = p * r + 0.2402264688933484;
    p = p * r + 0.6931472057391918;
    p = p * r + 1.0000000005543441;
    return p * FN(of_bits)(FN(raised)(FN(bits_of)(shifted), MANTISSA));
}

/* v, as a number: not as the product that it is and that would be added without being rounded */
V_INLINE V FN(rounded)(V v) {
#if defined(KERNELOPS_X86) && REGISTER_BYTES > 16
    __asm__("" : "+v"(v));
#elif defined(__aarch64__) && defined(KERNELOPS_VECTORS)
    __asm__("" : "+w"(v));
#elif defined(__FP_FAST_FMA) && defined(KERNELOPS_VECTORS)
    __asm__("" : "+m"(v));
#endif
    return v;
}

/* a*b - c where c is nearly a*b: what c lacks. Without fused products a and b are cut into halves. */
V_INLINE V FN(lack)(V a, V b, V c) {
#if defined(KERNELOPS_X86) && REGISTER_BYTES > 16
    return MM(fmsub)(a, b, c);
#elif defined(__FP_FAST_FMA)
    T x[LANES], y[LANES], z[LANES];
    FN(store)(x, a);
    FN(store)(y, b);
    FN(store)(z, c);
    for (int lane = 0; lane < LANES; lane++) z[lane] = fma(x[lane], y[lane], -z[lane]);
    return FN(load)(z);
#else
    const V high_a = FN(of_bits)(FN(bits_of)(a) & -((BITS)1 << 27)), low_a = a - high_a;
    const V high_b = FN(of_bits)(FN(bits_of)(b) & -((BITS)1 << 27)), low_b = b - high_b;
    return ((high_a * high_b - c) + high_a * low_b + low_a * high_b) + low_a * low_b;
#endif
}

/* log(2^more a) for normal a > 0, as the sum of what is returned and *rest */
V_INLINE V FN(long_log)(V a, V more, V *rest) {
    V m;
    const V e = FN(split)(a, &m) + more, f = m - 1, t = m + 1, t_rest = m - (t - 1), inverse = 1 / t;
    const V s = FN(rounded)(f * inverse), s_rest = -(FN(lack)(s, t, f) + s * t_rest) * inverse;
    const V z = FN(rounded)(s * s), z_rest = FN(lack)(s, s, z) + (s + s) * s_rest;
    V R = FN(all)(0.11988864324670236);
    R = R * z + 0.11674836415647684;
    R = R * z + 0.13336316534393466;
    R = R * z + 0.15384556894075124;
    R = R * z + 0.1818181886997476;
    R = R * z + 0.22222222217539253;
    R = R * z + 0.285714285714451;
    R = R * z + 0.3999999999999998;
    /* 2 s + s^3 c with c = 2/3 + R s^2 */
    const V tail = FN(rounded)(R * z), c = tail + 0.6666666666666666, c_rest = ((0.6666666666666666 - c) + tail) + 3.700743415417188e-17;
    const V cube = FN(rounded)(s * z), cube_rest = FN(lack)(s, z, cube) + (s * z_rest + s_rest * z);
    const V v = FN(rounded)(cube * c), v_rest = FN(lack)(cube, c, v) + (cube * c_rest + cube_rest * c);
    const V twice = s + s, h = twice + v, h_rest = ((twice - h) + v) + (s_rest + s_rest + v_rest);
    /* the first part of ln 2 is short, so that its product with e is exact */
    const V whole = e * 6.93147180369123816490e-01, sum = whole + h;
    *rest = ((whole - sum) + h) + (h_rest + e * 1.90821492927058770002e-10);
    return sum;
}

/* exp(x + rest) */
V_INLINE V FN(long_exp)(V x, V rest) {
    x = FN(at_most)(FN(all)(711), FN(at_least)(FN(all)(-747), x));
    const V n = (x * 1.4426950408889634074 + ROUND) - ROUND;
    const V r = (x - n * 6.93147180369123816490e-01) - (n * 1.90821492927058770002e-10 - rest);
    V p = FN(all)(2.500000833243082e-08);
    p = p * r + 2.7630248485211643e-07;
    p = p * r + 2.7557586548670366e-06;
    p = p * r + 2.480149309891094e-05;
    p = p * r + 0.00019841269506377436;
    p = p * r + 0.0013888888943629745;
    p = p * r + 0.008333333333494555;
    p = p * r + 0.04166666666653016;
    p = p * r + 0.16666666666666413;
    p = p * r + 0.5000000000000011;
    return FN(scaled)(p * (r * r) + r + 1, n);
}
#undef ROUND
#endif

/* a^b where |a|^b is value: signs and special cases */
V_INLINE V FN(special_power)(V a, V b, V value) {
    const V size = FN(magnitude)(a), much = FN(magnitude)(b);
    const VBITS zero = MASK(size == 0), endless = MASK(size > LARGEST), big = MASK(much >= WHOLE);
    /* the lowest bit of a whole number is that of an odd one, from WHOLE up to 2 WHOLE */
    const V shifted = FN(select)(big, much, much + WHOLE);
    const VBITS whole = big | MASK(shifted - WHOLE == much), lowest = FN(raised)(FN(bits_of)(shifted), 8 * sizeof(T) - 1);
    const VBITS odd = whole & lowest & MASK(much < 2 * WHOLE);
    value = FN(select)(zero | endless, FN(of_bits)((MASK(b > 0) ^ zero) & FN(bits_of)(FN(all)((T)INFINITY))), value);
    value = FN(of_bits)(FN(bits_of)(value) | (odd & FN(bits_of)(a) & SIGN_BIT));
    const VBITS undefined = MASK(a != a) | MASK(b != b) | (MASK(a < 0) & ~whole & ~endless);
    value = FN(of_bits)(FN(bits_of)(value) | undefined);
    const VBITS one = MASK(b == 0) | MASK(a == 1) | (MASK(size == 1) & MASK(much > LARGEST));
    return FN(select)(one, FN(all)(1), value);
}

V_INLINE V FN(pow_of)(V a, V b) {
    const V much = FN(magnitude)(b);
    const int special = FN(any_set)(~(MASK(a >= SMALLEST_NORMAL) & MASK(a <= LARGEST) & MASK(much <= LARGEST)));
#if IS_DOUBLE
    V base = a, more = FN(all)(0), rest;
    if (special) {
        const VBITS small = MASK(FN(magnitude)(a) < SMALLEST_NORMAL);
        base = FN(magnitude)(a) * FN(select)(small, FN(all)((T)((UBITS)1 << LIFT)), FN(all)(1));
        more = FN(of_bits)(small & FN(bits_of)(FN(all)(-LIFT)));
    }
    const V log = FN(long_log)(base, more, &rest), product = FN(rounded)(log * b);
    /* beyond 1000 the result has no digits, and infinite products no rest */
    rest = FN(of_bits)(FN(bits_of)(FN(lack)(log, b, product) + rest * b) & MASK(FN(magnitude)(product) < 1000));
    const V value = FN(long_exp)(product, rest);
#else
    FN(wide_vector) base[FN(WIDE_PARTS)], exponent[FN(WIDE_PARTS)];
    FN(widen)(FN(magnitude)(a), base);
    FN(widen)(b, exponent);
    for (int k = 0; k < FN(WIDE_PARTS); k++) base[k] = WIDE(short_power)(base[k], exponent[k]);
    const V value = FN(narrow)(base);
#endif
    return special ? FN(special_power)(a, b, value) : value;
}

/* a^m by squares and products; in float these are made in double */
#if IS_DOUBLE
V_INLINE V FN(whole_power)(V a, int m) {
    V power = FN(all)(1);
#pragma GCC unroll 3
    for (unsigned e = m < 0 ? 0u - (unsigned)m : (unsigned)m; e; e >>= 1, a = a * a)
        if (e & 1u) power = power * a;
    return m < 0 ? 1 / power : power;
}
#else
V_INLINE V FN(whole_power)(V a, int m) {
    FN(wide_vector) wide[FN(WIDE_PARTS)];
    FN(widen)(a, wide);
    for (int k = 0; k < FN(WIDE_PARTS); k++) wide[k] = WIDE(whole_power)(wide[k], m);
    return FN(narrow)(wide);
}
#undef WIDE
#endif
#undef MANTISSA
#undef BIAS
#undef SMALLEST_NORMAL
#undef LARGEST
#undef SQRT_HALF_BITS
#undef WHOLE
#undef LIFT
#undef SIGN_BIT
