/* Exponentials and square roots of vectors, for one precision and one instruction set.
 *
 * exp(x) = 2^t with t = x log2(e); n is t rounded down (AVX-512) or to the nearest integer (others), and 2^(t-n) is a
 * polynomial of the least relative error with p(0) = 1, which is below 0.7 units in the last place of T. AVX-512 has
 * one instruction for t - n and one for p 2^n that are right at the ends too; elsewhere n is made in the low bits of
 * t + ROUND and becomes the exponent of a factor, and arguments are clamped to where that factor is a number.
 */

#if IS_DOUBLE
#define LOG2_E 1.4426950408889634074
#define LOG2_E_REST 2.0355273740931033e-17 /* what LOG2_E lacks */
#else
#define LOG2_E 1.44269504088896341f
#define LOG2_E_REST 1.92596299e-8f
#endif

#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)

/* 2^r 2^floor(t) for 0 <= r <= 1; in float a polynomial of one degree more where `best` is wanted. */
V_INLINE V FN(power_of_two)(V r, V t, int best) {
#if IS_DOUBLE
    (void)best;
    V p = FN(all)(6.2634652734225902742e-10);
    p = FN(fused)(p, r, FN(all)(6.5595298355172712178e-9));
    p = FN(fused)(p, r, FN(all)(1.025321230405209001e-7));
    p = FN(fused)(p, r, FN(all)(1.3208367308220049348e-6));
    p = FN(fused)(p, r, FN(all)(0.00001525317505379524616));
    p = FN(fused)(p, r, FN(all)(0.00015403512309733948746));
    p = FN(fused)(p, r, FN(all)(0.0013333558629562675936));
    p = FN(fused)(p, r, FN(all)(0.0096181290995508956128));
    p = FN(fused)(p, r, FN(all)(0.055504108665602238723));
    p = FN(fused)(p, r, FN(all)(0.24022650695906330315));
    p = FN(fused)(p, r, FN(all)(0.69314718055994592839));
#else
    if (best) {
        V p = FN(all)(0.00021612914969557343788f);
        p = FN(fused)(p, r, FN(all)(0.0012467846450773492551f));
        p = FN(fused)(p, r, FN(all)(0.0096754515652170405198f));
        p = FN(fused)(p, r, FN(all)(0.055485280620182784799f));
        p = FN(fused)(p, r, FN(all)(0.24022930555173854114f));
        p = FN(fused)(p, r, FN(all)(0.69314704444336655545f));
        return MM(scalef)(FN(fused)(p, r, FN(all)(1)), t);
    }
    V p = FN(all)(0.0018671300819070081778f);
    p = FN(fused)(p, r, FN(all)(0.0090170302844367490406f));
    p = FN(fused)(p, r, FN(all)(0.055799913145968066977f));
    p = FN(fused)(p, r, FN(all)(0.24016445013606755314f));
    p = FN(fused)(p, r, FN(all)(0.69315131180752295536f));
#endif
    return MM(scalef)(FN(fused)(p, r, FN(all)(1)), t);
}

V_INLINE V FN(exp2)(V t) { return FN(power_of_two)(MM(reduce)(t, 0x09), t, 0); }

V_INLINE V FN(exp_of)(V a) {
    a = FN(at_most)(FN(all)(IS_DOUBLE ? 711 : 90), FN(at_least)(FN(all)(IS_DOUBLE ? -747 : -105), a));
    const V n = MM(roundscale)(a * LOG2_E, 0x09);
    return FN(power_of_two)(MM(fmadd)(a, FN(all)(LOG2_E_REST), MM(fmsub)(a, FN(all)(LOG2_E), n)), n, 1);
}

#else

#if IS_DOUBLE
#define ROUND 6755399441055744.0 /* 1.5 * 2^52: to integers */
#define EXPONENT 52
#define BIAS 1023
#else
#define ROUND 12582912.0f /* 1.5 * 2^23 */
#define EXPONENT 23
#define BIAS 127
#endif

/* 2^r for |r| <= 1/2 */
V_INLINE V FN(power_of_two)(V r) {
#if IS_DOUBLE
    V p = FN(all)(4.4347703747065074e-10);
    p = FN(fused)(p, r, FN(all)(7.073784038300606e-09));
    p = FN(fused)(p, r, FN(all)(1.017819958442151e-07));
    p = FN(fused)(p, r, FN(all)(1.321543527796153e-06));
    p = FN(fused)(p, r, FN(all)(1.5252733493081068e-05));
    p = FN(fused)(p, r, FN(all)(0.00015403530457120258));
    p = FN(fused)(p, r, FN(all)(0.0013333558146774685));
    p = FN(fused)(p, r, FN(all)(0.009618129107594114));
    p = FN(fused)(p, r, FN(all)(0.055504108664820084));
    p = FN(fused)(p, r, FN(all)(0.2402265069591013));
    p = FN(fused)(p, r, FN(all)(0.6931471805599453));
#else
    V p = FN(all)(0.00015594678161326619324f);
    p = FN(fused)(p, r, FN(all)(0.0013406643902351759246f));
    p = FN(fused)(p, r, FN(all)(0.0096176929729930623181f));
    p = FN(fused)(p, r, FN(all)(0.055503105510137971734f));
    p = FN(fused)(p, r, FN(all)(0.2402265278288773743f));
    p = FN(fused)(p, r, FN(all)(0.6931472149680278995f));
#endif
    return FN(fused)(p, r, FN(all)(1));
}

/* Results below the least normal number become 0. */
V_INLINE V FN(exp2)(V t) {
    t = FN(at_most)(FN(all)(BIAS + 2), FN(at_least)(FN(all)(1 - BIAS), t));
    const V shifted = t + (ROUND + (BIAS - 1)), n = shifted - (ROUND + (BIAS - 1));
    const V p = FN(power_of_two)(t - n);
    return (p + p) * FN(of_bits)(FN(raised)(FN(bits_of)(shifted), EXPONENT)); /* 2^(n-1) */
}

/* exp(r) by its Taylor series, 1 and r added last; 2^n in two factors, so that results in the subnormal range and just
 * below overflow come out right. */
V_INLINE V FN(exp_of)(V a) {
    a = FN(at_most)(FN(all)(IS_DOUBLE ? 711 : 90), FN(at_least)(FN(all)(IS_DOUBLE ? -747 : -105), a));
    const V shifted = FN(fused)(a, FN(all)(LOG2_E), FN(all)(ROUND)), n = shifted - ROUND;
#if IS_DOUBLE /* ln 2 in two parts, so that n times the first is exact */
    const V r = FN(fused_less)(n, FN(all)(1.90821492927058770002e-10), FN(fused_less)(n, FN(all)(6.93147180369123816490e-01), a));
    V p = FN(all)(1.0 / 6227020800.0);
    p = FN(fused)(p, r, FN(all)(1.0 / 479001600.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 39916800.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 3628800.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 362880.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 40320.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 5040.0));
    p = FN(fused)(p, r, FN(all)(1.0 / 720.0));
#else
    const V r = FN(fused_less)(n, FN(all)(-2.12194440054690583e-4f), FN(fused_less)(n, FN(all)(0.693359375f), a));
    V p = FN(all)((T)(1.0 / 5040.0));
    p = FN(fused)(p, r, FN(all)((T)(1.0 / 720.0)));
#endif
    p = FN(fused)(p, r, FN(all)((T)(1.0 / 120.0)));
    p = FN(fused)(p, r, FN(all)((T)(1.0 / 24.0)));
    p = FN(fused)(p, r, FN(all)((T)(1.0 / 6.0)));
    p = FN(fused)(p, r, FN(all)((T)0.5));
    p = FN(fused)(p * r, r, r) + 1;
    const VBITS whole = FN(bits_of)(shifted) - FN(bits_of)(FN(all)(ROUND));
    const VBITS half = whole / 2;
    return p * FN(of_bits)(FN(raised)(half + BIAS, EXPONENT)) * FN(of_bits)(FN(raised)(whole - half + BIAS, EXPONENT));
}

#undef ROUND
#undef EXPONENT
#undef BIAS
#endif
#undef LOG2_E
#undef LOG2_E_REST

#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86) && !IS_DOUBLE
/* An estimate y of 1/sqrt(a) to 14 bits and one Newton step each. Where a or its root leaves the range in which the
 * step is exact enough, and at 0 and infinity, the processor's own slower instructions are right. They are chosen lane by
 * lane: the lanes beside hold other pairs, or what an earlier tile left there, and must not change a value. */
V_INLINE __mmask16 FN(plain_root)(V a) {
    return _mm512_cmp_ps_mask(a, _mm512_set1_ps(0x1p-100f), _CMP_GE_OQ) & _mm512_cmp_ps_mask(a, _mm512_set1_ps(0x1p126f), _CMP_LE_OQ);
}

V_INLINE V FN(sqrt_of)(V a) {
    const __mmask16 plain = FN(plain_root)(a);
    const V y = _mm512_rsqrt14_ps(a), s = a * y, root = FN(fused)(FN(fused_less)(s, s, a), y * 0.5f, s);
    if (plain == 0xffff) return root;
    return _mm512_mask_mov_ps(_mm512_sqrt_ps(a), plain, root);
}

V_INLINE V FN(rsqrt_of)(V a) {
    const __mmask16 plain = FN(plain_root)(a), zero = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_EQ_OQ);
    const V y = _mm512_rsqrt14_ps(a), e = FN(fused_less)(a * y, y, FN(all)(1));
    const V root = FN(fused)(y * e, FN(fused)(FN(all)(0.375f), e, FN(all)(0.5f)), y);
    if (plain == 0xffff) return root;
    return _mm512_mask_mov_ps(_mm512_mask_mov_ps(1 / _mm512_sqrt_ps(a), zero, _mm512_setzero_ps()), plain, root);
}
#elif defined(MM)
V_INLINE V FN(sqrt_of)(V a) { return MM(sqrt)(a); }
V_INLINE V FN(rsqrt_of)(V a) { return FN(select)((VBITS)(a == 0), FN(all)(0), 1 / MM(sqrt)(a)); }
#else
V_INLINE V FN(sqrt_of)(V a) {
    T x[LANES];
    FN(store)(x, a);
    for (int lane = 0; lane < LANES; lane++) x[lane] = LIBM(sqrt)(x[lane]);
    return FN(load)(x);
}
V_INLINE V FN(rsqrt_of)(V a) {
    T x[LANES];
    FN(store)(x, a);
    for (int lane = 0; lane < LANES; lane++) x[lane] = x[lane] == 0 ? 0 : 1 / LIBM(sqrt)(x[lane]);
    return FN(load)(x);
}
#endif
