/* Contractions of a row's vector with the columns' vectors, in the difference form, which has no cancellation.
 *
 * A block of rows by columns stays in registers while the components are walked, so that a column's component is read
 * once for all these rows. Columns past n, up to the end of the last block, are computed from whatever lies there (the
 * packed data has slack) and never read.
 */

enum { FN(BLOCK) = 2 }; /* registers of columns in a block of rows */

V_INLINE V FN(contraction_term)(int op, V a, V b, V w) {
    switch (op) {
    case OP_SqDist: return (a - b) * (a - b);
    case OP_L1Dist: return FN(magnitude)(a - b);
    case OP_WeightedSqDist: return (a - b) * (a - b) * w;
    default: return a * b;
    }
}

/* sum = or += the terms of component k, for a block of rows; w: weights, w_next apart from row to row. */
V_INLINE void FN(contract_component)(int op, int rows, int first, V sum[4][FN(BLOCK)], const T *x, ptrdiff_t next, const T *y, const T *w,
                                     ptrdiff_t w_next) {
    V column[FN(BLOCK)];
    for (int q = 0; q < FN(BLOCK); q++) column[q] = FN(load)(y + q * LANES);
    for (int r = 0; r < rows; r++) {
        const V a = FN(all)(x[r * next]), weight = op == OP_WeightedSqDist ? FN(all)(w[r * w_next]) : a;
        for (int q = 0; q < FN(BLOCK); q++) {
            const V term = FN(contraction_term)(op, a, column[q], weight);
            sum[r][q] = first ? term : sum[r][q] + term;
        }
    }
}

V_INLINE void FN(contract_block)(int op, int rows, T *out, const T *x, ptrdiff_t next, const T *y, const T *w, ptrdiff_t w_next,
                                 int d, int n) {
    for (int i = 0; i < n; i += FN(BLOCK) * LANES) {
        V sum[4][FN(BLOCK)];
        FN(contract_component)(op, rows, 1, sum, x, next, y + i, w, w_next);
        for (int k = 1; k < d; k++) FN(contract_component)(op, rows, 0, sum, x + k, next, y + (ptrdiff_t)k * TILE_WIDTH + i, w + k, w_next);
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < FN(BLOCK); q++) FN(store)(out + (ptrdiff_t)r * TILE_WIDTH + i + q * LANES, sum[r][q]);
    }
}

#define CONTRACTION(name)                                                                                              \
    static void FN(name##4)(T * out, const T *x, ptrdiff_t next, const T *y, const T *w, ptrdiff_t w_next, int d, int n) { \
        FN(contract_block)(OP_##name, 4, out, x, next, y, w, w_next, d, n);                                            \
    }                                                                                                                  \
    static void FN(name##1)(T * out, const T *x, ptrdiff_t next, const T *y, const T *w, ptrdiff_t w_next, int d, int n) { \
        FN(contract_block)(OP_##name, 1, out, x, next, y, w, w_next, d, n);                                            \
    }
KERNELOPS_CONTRACTIONS(CONTRACTION)
#undef CONTRACTION

static void FN(contract)(const FN(context) * s, const instruction *p) {
    typedef void (*contraction)(T *, const T *, ptrdiff_t, const T *, const T *, ptrdiff_t, int, int);
#define CONTRACTION(name) {FN(name##1), FN(name##4)},
    static const contraction all[][2] = {KERNELOPS_CONTRACTIONS(CONTRACTION)};
#undef CONTRACTION
    const contraction *ways = all[p->op == OP_WideSqDist ? 0 : p->op - OP_SqDist];
    const T *x = s->row + p->a.base, *y = FN(columns)(s, p->b, 0, 0);
    const int of_row = p->c.place == IN_ROW;
    const T *w = (of_row ? s->row : s->params) + p->c.base;
    T *out = FN(plane)(s, p->out, 0, 0);
    for (int r = 0, step; r < s->rows; r += step) {
        step = s->rows - r < 4 ? 1 : 4;
        ways[step == 4](out + (ptrdiff_t)r * TILE_WIDTH, x + (ptrdiff_t)r * s->row_stride, s->row_stride, y,
                        w + (of_row ? (ptrdiff_t)r * s->row_stride : 0), of_row ? s->row_stride : 0, p->aux0, s->n);
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

