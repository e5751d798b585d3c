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

/* Each a function of its own, which leaves the registers to its constants. */
#define UNARY(name, value)                                                                                             \
    V_ALONE static void FN(name)(T * out, const T *pa, int n) {                                                        \
        for (int i = 0; i < n; i += LANES) {                                                                           \
            const V a = FN(load)(pa + i);                                                                              \
            FN(store)(out + i, value);                                                                                 \
        }                                                                                                              \
    }
#define v_exp FN(exp_of)
#define v_log FN(log_of)
#define v_sqrt FN(sqrt_of)
#define v_rsqrt FN(rsqrt_of)
#define v_sin FN(sin_of)
#define v_cos FN(cos_of)
#define v_tanh FN(tanh_of)
KERNELOPS_UNARY_VECTOR(UNARY)
#undef v_exp
#undef v_log
#undef v_sqrt
#undef v_rsqrt
#undef v_sin
#undef v_cos
#undef v_tanh
#undef UNARY

/* Small powers get a loop of their own, in which m is a constant and v_powi unrolls. */
#define UNARY_LOOP(value)                                                                                              \
    for (int i = 0; i < n; i += LANES) {                                                                               \
        const V a = FN(load)(pa + i);                                                                                  \
        FN(store)(out + i, value);                                                                                     \
    }
#define UNARY_CASE(constant, value)                                                                                    \
    case constant: {                                                                                                   \
        enum { m = constant };                                                                                         \
        UNARY_LOOP(value)                                                                                              \
        return;                                                                                                        \
    }
#define UNARY(name, value)                                                                                             \
    V_ALONE static void FN(name)(T * out, const T *pa, int n, int m) {                                                 \
        switch (m) {                                                                                                   \
            UNARY_CASE(-2, value)                                                                                      \
            UNARY_CASE(-1, value)                                                                                      \
            UNARY_CASE(3, value)                                                                                       \
            UNARY_CASE(4, value)                                                                                       \
            UNARY_CASE(5, value)                                                                                       \
            UNARY_CASE(6, value)                                                                                       \
        }                                                                                                              \
        UNARY_LOOP(value)                                                                                              \
    }
#define v_powi FN(whole_power)
KERNELOPS_UNARY_PARAM_VECTOR(UNARY)
#undef v_powi
#undef UNARY
#undef UNARY_CASE
#undef UNARY_LOOP

#define UNARY(name, value)                                                                                             \
    static void FN(name)(T * out, const T *pa, int n, int m) {                                                         \
        for (int i = 0; i < n; i++) {                                                                                  \
            const T a = pa[i];                                                                                         \
            out[i] = value;                                                                                            \
        }                                                                                                              \
    }
KERNELOPS_UNARY_PARAM_SLOW(UNARY)
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
KERNELOPS_ARITHMETIC(BINARY)
KERNELOPS_COMPARISONS(BINARY)
#undef BINARY

/* One loop: a scalar is read again and again, from a register full of it. */
#define BINARY(name, value)                                                                                            \
    V_ALONE static void FN(name)(T * out, const T *pa, int step_a, const T *pb, int step_b, int n) {                   \
        for (int i = 0; i < n; i += LANES, pa += step_a, pb += step_b) {                                               \
            const V a = FN(load)(pa), b = FN(load)(pb);                                                                \
            FN(store)(out + i, value);                                                                                 \
        }                                                                                                              \
    }                                                                                                                  \
    static void FN(name##_vv)(T * out, const T *pa, const T *pb, int n) { FN(name)(out, pa, LANES, pb, LANES, n); }    \
    static void FN(name##_vs)(T * out, const T *pa, const T b, int n) {                                                \
        T spread[LANES];                                                                                               \
        FN(store)(spread, FN(all)(b));                                                                                 \
        FN(name)(out, pa, LANES, spread, 0, n);                                                                        \
    }                                                                                                                  \
    static void FN(name##_sv)(T * out, const T a, const T *pb, int n) {                                                \
        T spread[LANES];                                                                                               \
        FN(store)(spread, FN(all)(a));                                                                                 \
        FN(name)(out, spread, 0, pb, LANES, n);                                                                        \
    }
#define v_pow FN(pow_of)
#define v_atan2 FN(atan2_of)
KERNELOPS_BINARY_VECTOR(BINARY)
#undef v_pow
#undef v_atan2
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

/* c log2(e); whether it is in the range of T, which it may leave where c is in it still. */
static inline int FN(scale_of_exp)(T c, T *scale) {
    const double wanted = (double)c * 1.4426950408889634074;
    *scale = (T)wanted;
    return !(fabs(wanted) > (IS_DOUBLE ? 1.7976931348623157e308 : 3.4028234663852886e38));
}

/* exp(a c), a map with its scale folded in: the rounding of a c log2(e) is like that of the argument a c. */
static V_ALONE void FN(ExpScaled)(T *out, const T *pa, T c, int n) {
    T scale;
    if (!FN(scale_of_exp)(c, &scale)) {
        FN(Mult_vs)(out, pa, c, n);
        FN(Exp)(out, out, n);
        return;
    }
    const V c2 = FN(all)(scale);
    for (int i = 0; i < n; i += LANES) FN(store)(out + i, FN(exp2)(FN(load)(pa + i) * c2));
}
