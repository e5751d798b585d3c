/* The tile interpreter for one precision (T) and one instruction set; included once for each pair by isa.h.
 *
 * A tile is a few rows of the result by up to TILE_WIDTH columns of what is reduced. An instruction runs over a whole
 * tile, so that its dispatch costs nothing, and its loop over columns is what the compiler turns into SIMD code.
 * Programs were checked when they were made; nothing is checked here.
 */

typedef struct {
    T *tile;         /* planes of rows_per_tile * TILE_WIDTH */
    const T *row;    /* the rows' exported components, row_stride apart */
    const T *col;    /* the columns' exported components, TILE_WIDTH apart */
    const T *params;
    int rows, row_stride, rows_per_tile, n;
    int64_t column; /* index of the first column, counted in the reduced dimension */
    const job *work;
    double *sums, *lost;  /* (row of the task, n_out) */
    double *maxima;       /* (row of the task) */
    T *values;            /* (row of the task, n_out, best) */
    int64_t *indices;
} FN(context);

static inline int FN(is_scalar)(operand x) { return x.place == IN_ROW || x.place == IN_PARAM; }

static inline T *FN(plane)(const FN(context) * s, operand x, int k, int r) {
    return s->tile + ((ptrdiff_t)(x.base + k * x.stride) * s->rows_per_tile + r) * TILE_WIDTH;
}

static inline T FN(scalar)(const FN(context) * s, operand x, int k, int r) {
    const ptrdiff_t at = x.base + (ptrdiff_t)k * x.stride;
    return x.place == IN_ROW ? s->row[(ptrdiff_t)r * s->row_stride + at] : s->params[at];
}

static inline const T *FN(columns)(const FN(context) * s, operand x, int k, int r) {
    return x.place == IN_COL ? s->col + (ptrdiff_t)(x.base + k * x.stride) * TILE_WIDTH : FN(plane)(s, x, k, r);
}

/* An operand as columns wherever it lives; a scalar is spread over `spread`. */
static const T *FN(any)(const FN(context) * s, operand x, int k, int r, T *spread) {
    if (!FN(is_scalar)(x)) return FN(columns)(s, x, k, r);
    const T value = FN(scalar)(s, x, k, r);
    for (int c = 0; c < s->n; c++) spread[c] = value;
    return spread;
}

/* ---- elementwise -------------------------------------------------------------------------------------------- */

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

/* ---- contractions of a row's vector with the columns' vectors ----------------------------------------------- */

/* A block of ROWS rows by BLOCK_BYTES of columns stays in registers while the components are walked, so that a
 * column's component is read once for all these rows. Columns past n, up to the end of the last block, are computed
 * from whatever lies there (the packed data has slack) and never read. */
#define CONTRACTION(name, ROWS, term)                                                                                  \
    static void FN(name##ROWS)(T * out, const T *x, ptrdiff_t next, const T *y, int d, int n) {                        \
        enum { WIDTH = BLOCK_BYTES / (int)sizeof(T) };                                                                 \
        for (int i = 0; i < n; i += WIDTH) {                                                                           \
            T sum[ROWS][WIDTH];                                                                                        \
            memset(sum, 0, sizeof sum);                                                                                \
            for (int k = 0; k < d; k++) {                                                                              \
                const T *yk = y + (ptrdiff_t)k * TILE_WIDTH + i;                                                       \
                for (int r = 0; r < ROWS; r++) {                                                                       \
                    const T a = x[r * next + k];                                                                       \
                    SIMD for (int l = 0; l < WIDTH; l++) {                                                             \
                        const T b = yk[l];                                                                             \
                        sum[r][l] += term;                                                                             \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++) memcpy(out + (ptrdiff_t)r * TILE_WIDTH + i, sum[r], sizeof sum[r]);         \
        }                                                                                                              \
    }
CONTRACTION(sqdist, 1, (a - b) * (a - b))
CONTRACTION(sqdist, 4, (a - b) * (a - b))
CONTRACTION(dot, 1, a *b)
CONTRACTION(dot, 4, a *b)
#undef CONTRACTION

static void FN(contract)(const FN(context) * s, const instruction *p) {
    const T *x = s->row + p->a.base, *y = FN(columns)(s, p->b, 0, 0);
    T *out = FN(plane)(s, p->out, 0, 0);
    for (int r = 0, step; r < s->rows; r += step) {
        step = s->rows - r < 4 ? 1 : 4;
        (p->op == OP_SqDist ? step == 4 ? FN(sqdist4) : FN(sqdist1) : step == 4 ? FN(dot4) : FN(dot1))(
            out + (ptrdiff_t)r * TILE_WIDTH, x + (ptrdiff_t)r * s->row_stride, s->row_stride, y, p->aux0, s->n);
    }
}

/* Row r of the general contraction. Its entry in the table: number of result dimensions, number of contracted ones, then
 * (size, stride in out, stride in a, stride in b) for each result dimension, (size, stride in a, stride in b) for each
 * contracted one. */
static void FN(tensordot)(const FN(context) * s, const instruction *p, int r) {
    const int32_t *row = s->work->contractions + p->aux0;
    const int nout = row[0], ncont = row[1], n = s->n;
    const int32_t *dims = row + 2, *cont = dims + 4 * nout;
    int total = 1, depth = 1;
    for (int d = 0; d < nout; d++) total *= dims[4 * d];
    for (int d = 0; d < ncont; d++) depth *= cont[3 * d];
    T spread_a[TILE_WIDTH], spread_b[TILE_WIDTH];
    for (int o = 0; o < total; o++) {
        int at_out = 0, at_a = 0, at_b = 0, rest = o;
        for (int d = nout - 1; d >= 0; d--) {
            const int place = rest % dims[4 * d];
            rest /= dims[4 * d];
            at_out += place * dims[4 * d + 1];
            at_a += place * dims[4 * d + 2];
            at_b += place * dims[4 * d + 3];
        }
        T *out = FN(plane)(s, p->out, 0, r) + (ptrdiff_t)at_out * s->rows_per_tile * TILE_WIDTH;
        for (int i = 0; i < n; i++) out[i] = 0;
        for (int q = 0; q < depth; q++) {
            int ia = at_a, ib = at_b, left = q;
            for (int d = ncont - 1; d >= 0; d--) {
                const int place = left % cont[3 * d];
                left /= cont[3 * d];
                ia += place * cont[3 * d + 1];
                ib += place * cont[3 * d + 2];
            }
            operand a = p->a, b = p->b;
            a.base += ia;
            b.base += ib;
            const T *pb = FN(any)(s, b, 0, r, spread_b);
            if (FN(is_scalar)(a)) {
                const T x = FN(scalar)(s, a, 0, r);
                SIMD for (int i = 0; i < n; i++) out[i] += x * pb[i];
            } else {
                const T *pa = FN(any)(s, a, 0, r, spread_a);
                SIMD for (int i = 0; i < n; i++) out[i] += pa[i] * pb[i];
            }
        }
    }
}

/* ---- what ends a program ------------------------------------------------------------------------------------- */

static double FN(sum_of)(const T *a, int n, int wide) {
    if (wide) {
        double sum = 0;
        SIMD_SUM(sum) for (int i = 0; i < n; i++) sum += (double)a[i];
        return sum;
    }
    T sum = 0;
    SIMD_SUM(sum) for (int i = 0; i < n; i++) sum += a[i];
    return (double)sum;
}

static double FN(dot_of)(const T *a, const T *b, int n, int wide) {
    if (wide) {
        double sum = 0;
        SIMD_SUM(sum) for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
        return sum;
    }
    T sum = 0;
    SIMD_SUM(sum) for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return (double)sum;
}

static inline void FN(add)(const FN(context) * s, int r, int component, double part) {
    const ptrdiff_t at = (ptrdiff_t)r * s->work->n_out + component;
    if (s->work->compensated) { /* Neumaier: what the larger of the two drops of the smaller */
        const double before = s->sums[at], after = before + part;
        s->lost[at] += fabs(before) >= fabs(part) ? (before - after) + part : (part - after) + before;
        s->sums[at] = after;
    } else
        s->sums[at] += part;
}

static double FN(reference)(double maximum) { return maximum > -INFINITY && maximum < INFINITY ? maximum : 0.0; }

/* exp(a - m) with m the largest value met so far in this row; sums made with an older m are rescaled. An infinite m is
 * no reference: then 0 is, and exp gives 0 or inf as it should. */
static void FN(shifted_exp)(const FN(context) * s, T *out, const T *a, int r) {
    T top = -INFINITY;
    for (int i = 0; i < s->n; i++) top = a[i] > top ? a[i] : top;
    const double old = s->maxima[r], now = (double)top > old ? (double)top : old;
    const double reference = FN(reference)(now);
    if (now > old) {
        const double scale = old == -INFINITY ? 1.0 : exp(FN(reference)(old) - reference);
        for (int k = 0; k < s->work->n_out; k++) {
            s->sums[(ptrdiff_t)r * s->work->n_out + k] *= scale;
            s->lost[(ptrdiff_t)r * s->work->n_out + k] *= scale;
        }
        s->maxima[r] = now;
    }
    FN(Subtract_vs)(out, a, (T)reference, s->n);
    FN(Exp)(out, out, s->n);
}

/* Whether value a goes before b: NaN before everything for one best value (it propagates, as in torch), after
 * everything for the K smallest or largest (where torch.topk puts it). */
static inline int FN(before)(T a, T b, int largest, int nan_first) {
    if (a != a || b != b) return nan_first ? (a != a && b == b) : (a == a && b != b);
    return largest ? a > b : a < b;
}

static void FN(keep_best)(const FN(context) * s, const T *a, int r, int component) {
    const int K = s->work->best, largest = s->work->largest, n = s->n, nan_first = s->work->nan_first;
    T *values = s->values + ((ptrdiff_t)r * s->work->n_out + component) * K;
    int64_t *indices = s->indices + ((ptrdiff_t)r * s->work->n_out + component) * K;
    const int full = indices[K - 1] >= 0;
    if (full) { /* one pass of SIMD tells that the tile has nothing better, which is nearly always so */
        const T worst = values[K - 1];
        int better = 0;
        if (largest) {
            SIMD_OR(better) for (int i = 0; i < n; i++) better |= !(a[i] <= worst);
        } else {
            SIMD_OR(better) for (int i = 0; i < n; i++) better |= !(a[i] >= worst);
        }
        if (!better) return;
    }
    for (int i = 0; i < n; i++) {
        if (indices[K - 1] >= 0 && !FN(before)(a[i], values[K - 1], largest, nan_first)) continue;
        int at = K - 1;
        while (at > 0 && (indices[at - 1] < 0 || FN(before)(a[i], values[at - 1], largest, nan_first))) {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
            at--;
        }
        values[at] = a[i];
        indices[at] = s->column + i;
    }
}

/* ---- the interpreter ------------------------------------------------------------------------------------------ */

static void FN(binary)(const FN(context) * s, const instruction *p, int k) {
    T spread[TILE_WIDTH];
    for (int r = 0; r < s->rows; r++) {
        T *out = FN(plane)(s, p->out, k, r);
        const int sa = FN(is_scalar)(p->a), sb = FN(is_scalar)(p->b);
        switch (p->op) {
#define BINARY(name, value)                                                                                            \
    case OP_##name:                                                                                                    \
        if (sb)                                                                                                        \
            FN(name##_vs)(out, FN(any)(s, p->a, k, r, spread), FN(scalar)(s, p->b, k, r), s->n);                       \
        else if (sa)                                                                                                   \
            FN(name##_sv)(out, FN(scalar)(s, p->a, k, r), FN(columns)(s, p->b, k, r), s->n);                           \
        else                                                                                                           \
            FN(name##_vv)(out, FN(columns)(s, p->a, k, r), FN(columns)(s, p->b, k, r), s->n);                          \
        break;
            KERNELOPS_BINARY(BINARY)
#undef BINARY
        }
    }
}

static void FN(step)(const FN(context) * s, const instruction *p, int k) {
    T spread[3][TILE_WIDTH];
    const int n = s->n;
    for (int r = 0; r < s->rows; r++) {
        T *out = p->out.place == IN_TILE ? FN(plane)(s, p->out, k, r) : NULL;
        switch (p->op) {
#define UNARY(name, value)                                                                                             \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), n);                                                           \
        break;
            KERNELOPS_UNARY(UNARY)
            KERNELOPS_UNARY_SLOW(UNARY)
#undef UNARY
#define UNARY(name, value)                                                                                             \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), n, p->aux0);                                                  \
        break;
            KERNELOPS_UNARY_PARAM(UNARY)
#undef UNARY
#define TERNARY(name, value)                                                                                           \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), FN(any)(s, p->b, k, r, spread[1]),                            \
                 FN(any)(s, p->c, k, r, spread[2]), n);                                                                \
        break;
            KERNELOPS_TERNARY(TERNARY)
#undef TERNARY
        case OP_Zero:
            for (int i = 0; i < n; i++) out[i] = 0;
            break;
        case OP_Accum: FN(Add_vv)(out, out, FN(any)(s, p->a, k, r, spread[0]), n); break;
        case OP_TensorDot: FN(tensordot)(s, p, r); break;
        case OP_OutSum:
            FN(add)(s, r, p->aux0 + k, FN(sum_of)(FN(any)(s, p->a, k, r, spread[0]), n, s->work->wide_sums));
            break;
        case OP_OutDot:
            FN(add)(s, r, p->aux0 + k,
                    FN(dot_of)(FN(any)(s, p->a, k, r, spread[0]), FN(any)(s, p->b, k, r, spread[1]), n, s->work->wide_sums));
            break;
        case OP_OutExp: FN(shifted_exp)(s, out, FN(any)(s, p->a, k, r, spread[0]), r); break;
        case OP_OutBest: FN(keep_best)(s, FN(any)(s, p->a, k, r, spread[0]), r, p->aux0 + k); break;
        }
    }
}

static void FN(run)(const FN(context) * s, const instruction *code, int from, int to, int k) {
    for (int at = from; at < to; at++) {
        const instruction *p = code + at;
        if (p->op == OP_Loop) {
            for (int q = 0; q < p->aux0; q++) FN(run)(s, code, at + 1, p->aux1, q);
            at = p->aux1;
        } else if (p->op >= OP_Add && p->op <= OP_LessOrEqual)
            FN(binary)(s, p, k);
        else if (p->op == OP_SqDist || p->op == OP_Dot)
            FN(contract)(s, p);
        else
            FN(step)(s, p, k);
    }
}
