/* Sines and cosines of vectors, for one precision and one instruction set.
 *
 * In double, |x| = n pi/2 + r with |r| <= pi/4. pi/2 is three numbers, n times the first two of which is exact, and what
 * |x| less these loses is given back. Polynomials of least error for sin(r) and cos(r); n says which of both, and its
 * sign. In float the same is done in double, of which so few digits are needed that |r| <= pi/2 can have one polynomial:
 * x = n pi + r, or (n + 1/2) pi + r, and the result is sin(r) with a sign. The library computes the lanes for which this
 * is not exact enough: those with large |x|, and in double the few that are nearly a multiple of pi/2.
 */

#if IS_DOUBLE
#define FAR 1.6e6 /* n < 2^20 */
#else
#define FAR 4e6f /* n < 2^21 */
#endif
#define ROUND 6755399441055744.0 /* 1.5 * 2^52: to integers, and n in the low bits */

#if IS_DOUBLE
/* sin or cos of |x| < 4e6, right to float; x is nearly exact for the numbers of that type. */
V_INLINE V FN(short_sine)(V x, int cosine) {
    /* cos(x) = (-1)^(n+1) sin(r): one more in the low bits */
    const V shifted = (cosine ? x * 0.3183098861837907 - 0.5 : x * 0.3183098861837907) + (ROUND + cosine);
    V n = shifted - (ROUND + cosine);
    if (cosine) n = n + 0.5;
    const V r = (x - n * 0x1.921fb54p+1) - n * 0x1.10b4611a62633p-29, z = r * r;
    V p = FN(all)(2.6089033265078163e-06);
    p = p * z - 0.00019811100595511295;
    p = p * z + 0.00833308801854005;
    p = p * z - 0.16666660457335197;
    p = p * z + 1;
    return FN(of_bits)(FN(bits_of)(p * r) ^ FN(raised)(FN(bits_of)(shifted), 63));
}

V_INLINE V FN(near_sine)(V x, int cosine, VBITS *far) {
    const V a = FN(magnitude)(x);
    const V shifted = a * 0.6366197723675814 + ROUND, n = shifted - ROUND;
    const V first = a - n * 0x1.921fb544p+0, second = n * 0x1.0b4611a6p-34, rest = first - second;
    const V r = rest - (n * 0x1.3198a2e037073p-69 - ((first - rest) - second)), z = r * r;
    /* r is wrong by n 2^-119 */
    *far = MASK(a > FAR) | MASK(FN(magnitude)(r) < n * 0x1p-63);
    V s = FN(all)(1.5896795713489568e-10);
    s = s * z - 2.5050758115698192e-08;
    s = s * z + 2.755731369191555e-06;
    s = s * z - 0.00019841269829807778;
    s = s * z + 0.008333333333322413;
    s = s * z - 0.16666666666666632;
    s = s * (z * r) + r;
    V c = FN(all)(-1.13596480422716e-11);
    c = c * z + 2.0875723278132235e-09;
    c = c * z - 2.7557314352372173e-07;
    c = c * z + 2.480158728948234e-05;
    c = c * z - 0.0013888888888874125;
    c = c * z + 0.0416666666666666;
    c = c * z - 0.5;
    c = c * z + 1;
    const VBITS quarter = (VBITS)((UVBITS)FN(bits_of)(shifted) + (UBITS)cosine), odd = -(quarter & 1);
    const VBITS sign = FN(raised)(quarter, 62) ^ (cosine ? FN(bits_of)(FN(all)(0)) : FN(bits_of)(x));
    return FN(of_bits)(FN(bits_of)(FN(select)(odd, c, s)) ^ (sign & SIGN_BIT));
}
#else
V_INLINE V FN(near_sine)(V x, int cosine, VBITS *far) {
    FN(wide_vector) wide[FN(WIDE_PARTS)];
    FN(widen)(x, wide);
    for (int k = 0; k < FN(WIDE_PARTS); k++) wide[k] = WIDE(short_sine)(wide[k], cosine);
    *far = MASK(FN(magnitude)(x) > FAR);
    return FN(narrow)(wide);
}
#endif
#undef FAR
#undef ROUND

/* values, but in the lanes that are far what the library says of x */
V_COLD static void FN(mend)(T *values, const T *x, const T *far, int cosine) {
    for (int lane = 0; lane < LANES; lane++) {
        BITS mark;
        memcpy(&mark, far + lane, sizeof mark);
        if (mark) values[lane] = cosine ? LIBM(cos)(x[lane]) : LIBM(sin)(x[lane]);
    }
}

V_INLINE V FN(sine)(V x, int cosine) {
    VBITS far;
    const V value = FN(near_sine)(x, cosine, &far);
    if (!FN(any_set)(far)) return value;
    T values[LANES], given[LANES], marks[LANES];
    FN(store)(values, value);
    FN(store)(given, x);
    FN(store)(marks, FN(of_bits)(far));
    FN(mend)(values, given, marks, cosine);
    return FN(load)(values);
}

V_INLINE V FN(sin_of)(V x) { return FN(sine)(x, 0); }
V_INLINE V FN(cos_of)(V x) { return FN(sine)(x, 1); }
