/* Hyperbolic tangents, and angles of points in the plane, for one precision and one instruction set.
 *
 * tanh(a) = a + a^3 p(a^2) for a < 0.625, with a polynomial of least error; from there on 1 - 2/(exp(2 a) + 1).
 *
 * The angle of (x, y) is that of the point (larger, smaller) of |x| and |y|, which is at most pi/4, turned according to
 * which of both was larger and to the signs. It is the arc tangent of smaller/larger if that is at most tan(pi/8), and else
 * pi/4 more than that of (smaller - larger)/(smaller + larger): of such small numbers it is a polynomial. Multiples of
 * pi/4 are two numbers, the first of which has so few bits that they are exact; the second goes to the small angle.
 */

#if IS_DOUBLE
#define QUARTER_PI 0x1.921fb54442d00p-1
#define QUARTER_PI_LOW 0x1.8469898cc5170p-49
#else
#define QUARTER_PI 0x1.921fa0p-1f
#define QUARTER_PI_LOW 0x1.54442ep-21f
#endif
#define HALF_OF_LARGEST (LARGEST / 2)
#define TAN_EIGHTH_PI ((T)0.41421356237309503)

V_INLINE V FN(tanh_of)(V x) {
    const V a = FN(magnitude)(x), z = a * a;
#if IS_DOUBLE
    V p = FN(all)(6.4798894356849035e-06);
    p = p * z - 3.119027812600633e-05;
    p = p * z + 9.256159096046231e-05;
    p = p * z - 0.00023758587896851232;
    p = p * z + 0.0005896591850909229;
    p = p * z - 0.001455775120880304;
    p = p * z + 0.003592121714308228;
    p = p * z - 0.008863235100344988;
    p = p * z + 0.021869488518876122;
    p = p * z - 0.05396825396789391;
    p = p * z + 0.1333333333333304;
    p = p * z - 0.3333333333333333;
#else
    V p = FN(all)(0.002291855718154063f);
    p = p * z - 0.008343168697439328f;
    p = p * z + 0.021768684424224274f;
    p = p * z - 0.05395923127211416f;
    p = p * z + 0.1333330344014216f;
    p = p * z - 0.33333331f;
#endif
    const V near = a + a * (z * p), far = 1 - 2 / (FN(exp_of)(a + a) + 1);
    const V value = FN(select)(MASK(a < (T)0.625), near, far);
    return FN(of_bits)(FN(bits_of)(value) | (FN(bits_of)(x) & SIGN_BIT));
}

V_INLINE V FN(atan2_of)(V y, V x) {
    const VBITS sign_of_x = FN(bits_of)(x) & SIGN_BIT, left = MASK(FN(of_bits)(sign_of_x | FN(bits_of)(FN(all)(1))) < 0);
    const V across = FN(magnitude)(x), up = FN(magnitude)(y);
    const VBITS steep = MASK(up > across);
    const VBITS large = MASK(up > HALF_OF_LARGEST) | MASK(across > HALF_OF_LARGEST); /* whose sums overflow */
    const V half = FN(select)(large, FN(all)((T)0.5), FN(all)(1));
    const V larger = FN(select)(steep, up, across) * half, smaller = FN(select)(steep, across, up) * half;
    const VBITS same = MASK(smaller == larger); /* two zeros and two infinities, too */
    const VBITS above = MASK(smaller > larger * TAN_EIGHTH_PI) | (same & MASK(larger > 0));
    const V quotient = FN(select)(above, smaller - larger, smaller) / FN(select)(above, smaller + larger, larger);
    const V u = FN(select)(same, FN(all)(0), quotient), z = u * u;
#if IS_DOUBLE
    V p = FN(all)(0.01630078135010629);
    p = p * z - 0.03458477118254424;
    p = p * z + 0.045521736097112755;
    p = p * z - 0.05230588263950476;
    p = p * z + 0.058789482104349575;
    p = p * z - 0.06666426655810075;
    p = p * z + 0.07692296479794182;
    p = p * z - 0.09090908757367878;
    p = p * z + 0.11111111105238769;
    p = p * z - 0.1428571428566075;
    p = p * z + 0.1999999999999981;
    p = p * z - 0.3333333333333333;
#else
    V p = FN(all)(0.05051889431674893f);
    p = p * z - 0.08626293289380739f;
    p = p * z + 0.11071609366606126f;
    p = p * z - 0.14284166294177222f;
    p = p * z + 0.19999977586567147f;
    p = p * z - 0.3333333328040786f;
#endif
    V angle = u + u * (z * p), quarters = FN(of_bits)(above & FN(bits_of)(FN(all)(1)));
    angle = FN(select)(steep, -angle, angle);
    quarters = FN(select)(steep, 2 - quarters, quarters);
    angle = FN(select)(left, -angle, angle);
    quarters = FN(select)(left, 4 - quarters, quarters);
    const V whole = quarters * QUARTER_PI + (angle + quarters * QUARTER_PI_LOW);
    const V value = FN(select)(MASK(quarters == 0), angle, whole);
    const V known = FN(of_bits)((FN(bits_of)(value) & ~SIGN_BIT) | (FN(bits_of)(y) & SIGN_BIT));
    return FN(select)(MASK(x == x) & MASK(y == y), known, x + y);
}

#undef QUARTER_PI
#undef QUARTER_PI_LOW
#undef HALF_OF_LARGEST
#undef TAN_EIGHTH_PI
