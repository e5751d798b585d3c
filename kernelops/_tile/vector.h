/* Vectors of T that fill a register, for one precision and one instruction set; included once for each pair.
 *
 * Sums, differences and products of vectors are written with the plain operators; what has no operator is a function
 * here. Compilers without vector types get vectors of one lane.
 */

#define V FN(vector)
#define VBITS FN(bit_vector)
#define UVBITS FN(unsigned_vector)

#ifdef KERNELOPS_VECTORS
typedef T V __attribute__((vector_size(REGISTER_BYTES)));
typedef T FN(loose_vector) __attribute__((vector_size(REGISTER_BYTES), aligned(sizeof(T)), may_alias));
typedef BITS VBITS __attribute__((vector_size(REGISTER_BYTES)));
typedef UBITS UVBITS __attribute__((vector_size(REGISTER_BYTES)));
#define MASK(truth) ((VBITS)(truth)) /* of a comparison: all bits of a lane or none */
#else
typedef T V, FN(loose_vector);
typedef BITS VBITS;
typedef UBITS UVBITS;
#define MASK(truth) (-(VBITS)(truth))
#endif
#define LANES ((int)(sizeof(V) / sizeof(T)))

V_INLINE V FN(load)(const T *at) { return *(const FN(loose_vector) *)at; }
V_INLINE void FN(store)(T *at, V v) { *(FN(loose_vector) *)at = v; }

V_INLINE VBITS FN(bits_of)(V v) {
    VBITS bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

V_INLINE V FN(of_bits)(VBITS bits) {
    V v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Bits moved up; what leaves a lane is lost. */
V_INLINE VBITS FN(raised)(VBITS bits, int by) { return (VBITS)((UVBITS)bits << by); }

/* Where mask (all bits or none in a lane) is set a, else b. */
V_INLINE V FN(select)(VBITS mask, V a, V b) { return FN(of_bits)((mask & FN(bits_of)(a)) | (~mask & FN(bits_of)(b))); }

#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
#define MM(name) JOIN(_mm512, name, SUFFIX)
V_INLINE V FN(all)(T x) { return MM(set1)(x); }
#elif REGISTER_BYTES == 32 && defined(KERNELOPS_X86)
#define MM(name) JOIN(_mm256, name, SUFFIX)
V_INLINE V FN(all)(T x) { return MM(set1)(x); }
#elif defined(KERNELOPS_X86)
#define MM(name) JOIN(_mm, name, SUFFIX)
V_INLINE V FN(all)(T x) { return MM(set1)(x); }
#else
V_INLINE V FN(all)(T x) { return x - (V){0}; }
#endif

/* a*b + c and c - a*b, rounded once where the instruction set has that: what is right to the last place by it alone may
 * not hang on whether a compiler finds it. */
#if defined(MM) && REGISTER_BYTES > 16
V_INLINE V FN(fused)(V a, V b, V c) { return MM(fmadd)(a, b, c); }
V_INLINE V FN(fused_less)(V a, V b, V c) { return MM(fnmadd)(a, b, c); }
#else
V_INLINE V FN(fused)(V a, V b, V c) { return a * b + c; }
V_INLINE V FN(fused_less)(V a, V b, V c) { return c - a * b; }
#endif

/* The larger and the smaller of v and a bound; a NaN in v stays. */
#ifdef MM
V_INLINE V FN(at_least)(V bound, V v) { return MM(max)(bound, v); }
V_INLINE V FN(at_most)(V bound, V v) { return MM(min)(bound, v); }
#elif defined(KERNELOPS_VECTORS)
V_INLINE V FN(at_least)(V bound, V v) { return FN(select)((VBITS)(v < bound), bound, v); }
V_INLINE V FN(at_most)(V bound, V v) { return FN(select)((VBITS)(v > bound), bound, v); }
#else
V_INLINE V FN(at_least)(V bound, V v) { return v < bound ? bound : v; }
V_INLINE V FN(at_most)(V bound, V v) { return v > bound ? bound : v; }
#endif

V_INLINE V FN(magnitude)(V v) { return FN(of_bits)(FN(bits_of)(v) & (((UBITS)~(UBITS)0) >> 1)); }

/* One bit for each lane where a is below b (or, above: above b), or where one of both is a NaN. */
V_INLINE unsigned FN(beats)(V a, V b, int above) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    return above ? JOIN(_mm512_cmp, SUFFIX, mask)(a, b, _CMP_NLE_UQ) : JOIN(_mm512_cmp, SUFFIX, mask)(a, b, _CMP_NGE_UQ);
#elif REGISTER_BYTES == 32 && defined(KERNELOPS_X86)
    return (unsigned)MM(movemask)(above ? MM(cmp)(a, b, _CMP_NLE_UQ) : MM(cmp)(a, b, _CMP_NGE_UQ));
#elif defined(KERNELOPS_X86)
    return (unsigned)MM(movemask)(above ? MM(cmpnle)(a, b) : MM(cmpnge)(a, b));
#else
    T x[LANES], y[LANES];
    unsigned mask = 0;
    FN(store)(x, a);
    FN(store)(y, b);
    for (int lane = 0; lane < LANES; lane++) mask |= (unsigned)(above ? !(x[lane] <= y[lane]) : !(x[lane] >= y[lane])) << lane;
    return mask;
#endif
}

/* Whether any bit is set. */
V_INLINE int FN(any_set)(VBITS mask) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif REGISTER_BYTES == 32 && defined(KERNELOPS_X86)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#elif defined(KERNELOPS_X86)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    uint64_t part[(sizeof mask + 7) / 8] = {0}, all = 0;
    memcpy(part, &mask, sizeof mask);
    for (size_t k = 0; k < sizeof part / 8; k++) all |= part[k];
    return all != 0;
#endif
}

/* The largest lane of a vector without NaN. */
V_INLINE T FN(largest_lane)(V v) {
#if REGISTER_BYTES == 64 && defined(KERNELOPS_X86)
    return MM(reduce_max)(v);
#else
    T lanes[LANES];
    FN(store)(lanes, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) lanes[lane] = lanes[lane] > lanes[lane + half] ? lanes[lane] : lanes[lane + half];
    return lanes[0];
#endif
}

/* Sums over the lanes of four vectors; the lanes are added in one fixed order. */
V_INLINE void FN(sum_lanes)(const V v[4], T sums[4]) {
#if REGISTER_BYTES >= 32 && defined(KERNELOPS_X86)
#if IS_DOUBLE /* two lanes of a quarter register hold v[0] and v[1], then v[2] and v[3] */
    const V low = MM(unpacklo)(v[0], v[1]) + MM(unpackhi)(v[0], v[1]);
    const V high = MM(unpacklo)(v[2], v[3]) + MM(unpackhi)(v[2], v[3]);
#if REGISTER_BYTES == 64
    const __m256d a = _mm512_castpd512_pd256(low) + _mm512_extractf64x4_pd(low, 1);
    const __m256d b = _mm512_castpd512_pd256(high) + _mm512_extractf64x4_pd(high, 1);
#else
    const __m256d a = low, b = high;
#endif
    _mm_storeu_pd(sums, _mm256_castpd256_pd128(a) + _mm256_extractf128_pd(a, 1));
    _mm_storeu_pd(sums + 2, _mm256_castpd256_pd128(b) + _mm256_extractf128_pd(b, 1));
#else /* four lanes of a quarter register hold one of each */
    const V low = MM(unpacklo)(v[0], v[1]) + MM(unpackhi)(v[0], v[1]);
    const V high = MM(unpacklo)(v[2], v[3]) + MM(unpackhi)(v[2], v[3]);
    const V each = MM(shuffle)(low, high, 0x44) + MM(shuffle)(low, high, 0xee);
#if REGISTER_BYTES == 64
    const __m256 half = _mm512_castps512_ps256(each) + _mm512_extractf32x8_ps(each, 1);
#else
    const __m256 half = each;
#endif
    _mm_storeu_ps(sums, _mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1));
#endif
#else
    T lanes[4][LANES];
    for (int q = 0; q < 4; q++) {
        FN(store)(lanes[q], v[q]);
        for (int half = LANES / 2; half; half /= 2)
            for (int lane = 0; lane < half; lane++) lanes[q][lane] += lanes[q][lane + half];
        sums[q] = lanes[q][0];
    }
#endif
}
