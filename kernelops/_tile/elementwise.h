/* The value table as loops over columns: one function for each elementwise operation, precision and instruction set.
 *
 * Plain arithmetic is left to the compiler, which turns it into SIMD code. Functions on vectors compute whole registers:
 * columns past n, up to the end of the last register, are computed from whatever lies there (planes and packed data
 * have room for it) and never read.
 */

#define UNARY(name, value)                                                                                             \
    static void FN(name)(T * out, const T *pa, int n) {                                                                \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_UNARY(UNARY)
#undef UNARY

#define UNARY(name, value)                                                                                             \
    static void FN(name)(T * out, const T *pa, int n) {                                                                \
        for (int i = 0; i < n; i += LANES) {                                                                           \
            const V a = FN(load)(pa + i);                                                                              \
            FN(store)(out + i, value);                                                                                 \
        }                                                                                                              \
    }
#define v_exp FN(exp_of)
#define v_sqrt FN(sqrt_of)
#define v_rsqrt FN(rsqrt_of)
KERNELOPS_UNARY_VECTOR(UNARY)
#undef v_exp
#undef v_sqrt
#undef v_rsqrt
#undef UNARY

#define UNARY(name, value)                                                                                             \
    static void FN(name)(T * out, const T *pa, int n) {                                                                \
        for (int i = 0; i < n; i++) {                                                                                  \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_UNARY_SLOW(UNARY)
#undef UNARY

/* Small powers get a loop of their own, in which m is a constant and v_powi unrolls into SIMD code. */
#define UNARY_LOOP(constant, value)                                                                                    \
    case constant: {                                                                                                   \
        enum { m = constant };                                                                                         \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
        return;                                                                                                        \
    }
#define UNARY(name, value)                                                                                             \
    static void FN(name)(T * out, const T *pa, int n, int m) {                                                         \
        switch (m) {                                                                                                   \
            UNARY_LOOP(-2, value)                                                                                      \
            UNARY_LOOP(-1, value)                                                                                      \
            UNARY_LOOP(3, value)                                                                                       \
            UNARY_LOOP(4, value)                                                                                       \
            UNARY_LOOP(5, value)                                                                                       \
            UNARY_LOOP(6, value)                                                                                       \
        }                                                                                                              \
        for (int i = 0; i < n; i++) {                                                                                  \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_UNARY_PARAM(UNARY)
#undef UNARY_LOOP
#undef UNARY

#define BINARY(name, value)                                                                                            \
    static void FN(name##_vv)(T * out, const T *pa, const T *pb, int n) {                                              \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T a = pa[i], b = pb[i];                                                                              \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }                                                                                                                  \
    static void FN(name##_vs)(T * out, const T *pa, const T b, int n) {                                                \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }                                                                                                                  \
    static void FN(name##_sv)(T * out, const T a, const T *pb, int n) {                                                \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T b = pb[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_BINARY(BINARY)
#undef BINARY

#define TERNARY(name, value)                                                                                           \
    static void FN(name)(T * out, const T *pa, const T *pb, const T *pc, int n) {                                      \
        SIMD for (int i = 0; i < n; i++) {                                                                             \
            const T a = pa[i], b = pb[i], c = pc[i];                                                                   \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_TERNARY(TERNARY)
#undef TERNARY

/* exp(a c), a map with its scale folded in: the rounding of a c log2(e) is like that of the argument a c. */
static void FN(ExpScaled)(T *out, const T *pa, T c, int n) {
    const double scale = (double)c * 1.4426950408889634074;
    const V c1 = FN(all)(c), c2 = FN(all)((T)scale);
    if (fabs(scale) > (IS_DOUBLE ? 1.7976931348623157e308 : 3.4028234663852886e38)) /* c may be a number still */
        for (int i = 0; i < n; i += LANES) FN(store)(out + i, FN(exp_of)(FN(load)(pa + i) * c1));
    else
        for (int i = 0; i < n; i += LANES) FN(store)(out + i, FN(exp2)(FN(load)(pa + i) * c2));
}
