/* What ends a program: sums over columns, sums of exponentials with a running maximum, smallest and largest values,
 * the values themselves. */

static inline void FN(add)(const FN(context) * s, int r, int component, double part) {
    const ptrdiff_t at = (ptrdiff_t)r * s->work->n_out + component;
    if (s->work->compensated) { /* Neumaier: what the larger of the two drops of the smaller */
        const double before = s->sums[at], after = before + part;
        s->lost[at] += fabs(before) >= fabs(part) ? (before - after) + part : (part - after) + before;
        s->sums[at] = after;
    } else
        s->sums[at] += part;
}

/* A block of sums, `wide` in each row. */
static void FN(add_block)(const FN(context) * s, int r, int component, int rows, int wide, const T *sums) {
    double *at = s->sums + (ptrdiff_t)r * s->work->n_out + component;
    if (wide == 4 && !s->work->compensated)
        for (int e = 0; e < rows; e++, at += s->work->n_out)
            for (int q = 0; q < 4; q++) at[q] += (double)sums[4 * e + q];
    else if (wide == 2 && !s->work->compensated)
        for (int e = 0; e < rows; e++, at += s->work->n_out)
            for (int q = 0; q < 2; q++) at[q] += (double)sums[2 * e + q];
    else
        for (int e = 0; e < rows * wide; e++) FN(add)(s, r + e / wide, component + e % wide, (double)sums[e]);
}

/* ---- sums ---------------------------------------------------------------------------------------------------- */

enum { FN(ALONE) = 0, FN(TIMES) = 1, FN(DIFFERENCE) = 2 }; /* a, a*b, a*(x - b) */

/* sums[r*count + q] = sum over n columns of a_r, a_r*b_q or a_r*(x_rq - b_q): a small matrix product whose block stays
 * in registers. The rows of a and the vectors of b are TILE_WIDTH apart, the rows of x x_next. */
V_INLINE void FN(products)(int term, int rows, int count, const T *a, const T *b, const T *x, ptrdiff_t x_next, int n, T sums[16]) {
    V block[16];
    for (int q = 0; q < 16; q++) block[q] = FN(all)(0);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        V column[4];
        for (int q = 0; q < count; q++) column[q] = term == FN(ALONE) ? FN(all)(0) : FN(load)(b + q * TILE_WIDTH + i);
        for (int r = 0; r < rows; r++) {
            const V value = FN(load)(a + r * TILE_WIDTH + i);
            for (int q = 0; q < count; q++) {
                if (term == FN(ALONE)) block[r * count + q] += value;
                if (term == FN(TIMES)) block[r * count + q] += value * column[q];
                if (term == FN(DIFFERENCE)) block[r * count + q] += value * (x[r * x_next + q] - column[q]);
            }
        }
    }
    for (int g = 0; g < rows * count; g += 4) FN(sum_lanes)(block + g, sums + g);
    for (; i < n; i++)
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < count; q++) {
                const T value = a[r * TILE_WIDTH + i], other = term == FN(ALONE) ? 1 : b[q * TILE_WIDTH + i];
                sums[r * count + q] += value * (term == FN(DIFFERENCE) ? x[r * x_next + q] - other : other);
            }
}

#define PRODUCTS(term, rows, count)                                                                                    \
    static void FN(term##rows##by##count)(const T *a, const T *b, const T *x, ptrdiff_t x_next, int n, T *sums) {      \
        FN(products)(FN(term), rows, count, a, b, x, x_next, n, sums);                                                 \
    }
PRODUCTS(ALONE, 8, 1) /* eight sums at a time, because each step of one waits for the step before */
PRODUCTS(ALONE, 1, 1)
PRODUCTS(TIMES, 8, 1)
PRODUCTS(TIMES, 1, 1)
PRODUCTS(TIMES, 4, 2)
PRODUCTS(TIMES, 1, 2)
PRODUCTS(DIFFERENCE, 8, 1)
PRODUCTS(DIFFERENCE, 1, 1)
PRODUCTS(DIFFERENCE, 4, 2)
PRODUCTS(DIFFERENCE, 1, 2)
#if REGISTER_BYTES == 64 /* 32 registers hold sixteen sums */
PRODUCTS(TIMES, 4, 4)
PRODUCTS(TIMES, 1, 4)
PRODUCTS(DIFFERENCE, 4, 4)
PRODUCTS(DIFFERENCE, 1, 4)
#endif
#undef PRODUCTS

typedef struct {
    int count, rows; /* results at a time, rows of a block; then the sums for a block of rows and for one row */
    void (*many)(const T *, const T *, const T *, ptrdiff_t, int, T *), (*one)(const T *, const T *, const T *, ptrdiff_t, int, T *);
} FN(producer);

/* The widest block of results that fits what is left. */
static const FN(producer) *FN(block_of)(int term, int left) {
    static const FN(producer) alone = {1, 8, FN(ALONE8by1), FN(ALONE1by1)};
    static const FN(producer) times[] = {
        {1, 8, FN(TIMES8by1), FN(TIMES1by1)}, {2, 4, FN(TIMES4by2), FN(TIMES1by2)},
#if REGISTER_BYTES == 64
        {4, 4, FN(TIMES4by4), FN(TIMES1by4)},
#endif
    };
    static const FN(producer) differences[] = {
        {1, 8, FN(DIFFERENCE8by1), FN(DIFFERENCE1by1)}, {2, 4, FN(DIFFERENCE4by2), FN(DIFFERENCE1by2)},
#if REGISTER_BYTES == 64
        {4, 4, FN(DIFFERENCE4by4), FN(DIFFERENCE1by4)},
#endif
    };
    const int width = left >= 4 && REGISTER_BYTES == 64 ? 2 : left >= 2 ? 1 : 0;
    return term == FN(ALONE) ? &alone : term == FN(TIMES) ? times + width : differences + width;
}

/* Sums in double of terms in T. */
static void FN(wide_sums)(const FN(context) * s, int term, int at, const T *a, const T *b, const T *x, int count) {
    for (int r = 0; r < s->rows; r++)
        for (int q = 0; q < count; q++) {
            const T *value = a + r * TILE_WIDTH, *other = b + (ptrdiff_t)q * TILE_WIDTH;
            double sum = 0;
            if (term == FN(ALONE)) {
                SIMD_SUM(sum) for (int i = 0; i < s->n; i++) sum += (double)value[i];
            } else if (term == FN(TIMES)) {
                SIMD_SUM(sum) for (int i = 0; i < s->n; i++) sum += (double)value[i] * (double)other[i];
            } else {
                const T of_row = x[(ptrdiff_t)r * s->row_stride + q];
                SIMD_SUM(sum) for (int i = 0; i < s->n; i++) sum += (double)value[i] * (double)(of_row - other[i]);
            }
            FN(add)(s, r, at + q, sum);
        }
}

/* Columns that are summed in T, before double takes over: 16 for each lane. Where one term is far larger than the others,
 * as on the diagonal of a kernel matrix, each of these loses up to half an ulp of it. */
enum { FN(PIECE) = sizeof(T) == 4 && 16 * LANES < TILE_WIDTH ? 16 * LANES : TILE_WIDTH };

/* result[at + q] += sums of a, a*b_q or a*(x_q - b_q) for each row of the tile, q < count */
static void FN(add_products)(const FN(context) * s, int term, int at, const T *a, const T *b, const T *x, int count) {
    if (s->work->wide_sums) {
        FN(wide_sums)(s, term, at, a, b, x, count);
        return;
    }
    for (int q = 0; q < count;) {
        const FN(producer) *block = FN(block_of)(term, count - q);
        for (int r = 0, step; r < s->rows; r += step) {
            step = s->rows - r < block->rows ? 1 : block->rows;
            for (int i = 0; i < s->n; i += FN(PIECE)) {
                T sums[16];
                (step == 1 ? block->one : block->many)(a + r * TILE_WIDTH + i, b + (ptrdiff_t)q * TILE_WIDTH + i,
                                                       x + (ptrdiff_t)r * s->row_stride + q, s->row_stride,
                                                       s->n - i < FN(PIECE) ? s->n - i : FN(PIECE), sums);
                FN(add_block)(s, r, at + q, step, block->count, sums);
            }
        }
        q += block->count;
    }
}

/* OutSum and OutDot of whatever operands, row by row. */
static void FN(out_any)(const FN(context) * s, const instruction *p, int k) {
    T spread[2][TILE_WIDTH];
    FN(context) one = *s;
    one.rows = 1;
    for (int r = 0; r < s->rows; r++) {
        one.sums = s->sums + (ptrdiff_t)r * s->work->n_out;
        one.lost = s->lost + (ptrdiff_t)r * s->work->n_out;
        const T *a = FN(any)(s, p->a, k, r, spread[0]);
        const T *b = p->op == OP_OutSum ? a : FN(any)(s, p->b, k, r, spread[1]);
        FN(add_products)(&one, p->op == OP_OutSum ? FN(ALONE) : FN(TIMES), p->aux0 + k, a, b, a, 1);
    }
}

static void FN(out_sums)(const FN(context) * s, const instruction *p, int k) {
    if (p->op == OP_OutDiff)
        FN(add_products)(s, FN(DIFFERENCE), p->aux0, FN(plane)(s, p->a, 0, 0), FN(columns)(s, p->c, 0, 0), s->row + p->b.base, p->aux1);
    else if (p->op == OP_OutSum && p->a.place == IN_TILE)
        FN(add_products)(s, FN(ALONE), p->aux0 + k, FN(plane)(s, p->a, k, 0), NULL, NULL, 1);
    else if (p->op == OP_OutDot && p->a.place == IN_TILE && p->b.place == IN_COL)
        FN(add_products)(s, FN(TIMES), p->aux0 + k, FN(plane)(s, p->a, k, 0), FN(columns)(s, p->b, k, 0), NULL, p->aux1);
    else
        FN(out_any)(s, p, k);
}

/* ---- sums of exponentials ------------------------------------------------------------------------------------ */

static double FN(reference)(double maximum) { return maximum > -INFINITY && maximum < INFINITY ? maximum : 0.0; }

/* Four maxima at a time, because each step of one waits for the step before. */
static T FN(largest_scaled)(const T *a, T c, int n) {
    V most[4];
    int i = 0;
    for (int q = 0; q < 4; q++) most[q] = FN(all)(-(T)INFINITY);
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int q = 0; q < 4; q++) most[q] = FN(at_least)(FN(load)(a + i + q * LANES) * c, most[q]);
    T top = FN(largest_lane)(FN(at_least)(FN(at_least)(most[0], most[1]), FN(at_least)(most[2], most[3])));
    for (; i < n; i++) top = a[i] * c > top ? a[i] * c : top;
    return top;
}

/* exp(c a - m) with m the largest value met so far in this row; sums made with an older m are rescaled. An infinite m
 * is no reference: then 0 is, and exp gives 0 or inf as it should. */
static void FN(shifted_exp)(const FN(context) * s, T *out, const T *a, T c, int r) {
    const double top = (double)FN(largest_scaled)(a, c, s->n), old = s->maxima[r], now = top > old ? top : old;
    const double reference = FN(reference)(now);
    if (now > old) {
        const double scale = old == -INFINITY ? 1.0 : exp(FN(reference)(old) - reference);
        for (int k = 0; k < s->work->n_out; k++) {
            s->sums[(ptrdiff_t)r * s->work->n_out + k] *= scale;
            s->lost[(ptrdiff_t)r * s->work->n_out + k] *= scale;
        }
        s->maxima[r] = now;
    }
    /* m is a rounded product and c a - m may be made from the exact one, which can be larger: not by much, but in units
     * of m, so a difference above 0 is taken for 0 */
    const V shift = FN(all)((T)reference), bound = FN(all)(now < INFINITY ? 0 : (T)INFINITY), log2_e = FN(all)((T)1.4426950408889634074);
    for (int i = 0; i < s->n; i += LANES)
        FN(store)(out + i, FN(exp2)(FN(at_most)(bound, FN(load)(a + i) * c - shift) * log2_e));
}

/* ---- the best values ----------------------------------------------------------------------------------------- */

/* Whether value a goes before b: NaN before everything for one best value (it propagates, as in torch), after
 * everything for the K smallest or largest (where torch.topk puts it). */
static inline int FN(before)(T a, T b, int largest, int nan_first) {
    if (a != a || b != b) return nan_first ? (a != a && b == b) : (a == a && b != b);
    return largest ? a > b : a < b;
}

typedef struct {
    T *values;
    int64_t *indices;
    int K, largest, nan_first;
} FN(shelf);

static void FN(offer)(const FN(shelf) * kept, T a, int64_t index) {
    T *values = kept->values;
    int64_t *indices = kept->indices;
    int at = kept->K - 1;
    if (indices[at] >= 0 && !FN(before)(a, values[at], kept->largest, kept->nan_first)) return;
    while (at > 0 && (indices[at - 1] < 0 || FN(before)(a, values[at - 1], kept->largest, kept->nan_first))) {
        values[at] = values[at - 1];
        indices[at] = indices[at - 1];
        at--;
    }
    values[at] = a;
    indices[at] = index;
}

/* The same where all places are taken and a, which is no NaN, beats the last of them. */
static inline void FN(insert)(const FN(shelf) * kept, T a, int64_t index) {
    T *values = kept->values;
    int64_t *indices = kept->indices;
    int at = kept->K - 1;
    if (kept->largest)
        for (; at > 0 && !(a <= values[at - 1]); at--) values[at] = values[at - 1], indices[at] = indices[at - 1];
    else
        for (; at > 0 && !(a >= values[at - 1]); at--) values[at] = values[at - 1], indices[at] = indices[at - 1];
    values[at] = a;
    indices[at] = index;
}

/* The first tile of a row, where nothing is kept yet and nearly everything would be. The best of each lane over the tile:
 * the K-th best of these is reached by K values at least, so only what reaches it need be offered. Returns how many
 * columns are done: none where that says nothing. */
static int FN(keep_first)(const FN(shelf) * kept, const T *a, int n, int64_t column) {
    T best[LANES];
    V most = FN(load)(a);
    const int whole = n - n % LANES;
    for (int i = LANES; i < whole; i += LANES) {
        const V v = FN(load)(a + i);
        most = kept->largest ? FN(at_least)(v, most) : FN(at_most)(v, most);
    }
    FN(store)(best, most);
    for (int q = 1; q < LANES; q++)
        for (int p = q; p > 0 && (kept->largest ? best[p] > best[p - 1] : best[p] < best[p - 1]); p--) {
            const T lower = best[p];
            best[p] = best[p - 1];
            best[p - 1] = lower;
        }
    for (int q = 0; q < LANES; q++)
        if (!isfinite(best[q])) return 0; /* and a NaN in the first register has spoiled the order */
    const V bound = FN(all)(best[kept->K - 1]);
    for (int i = 0; i < whole; i += LANES)
        for (unsigned left = ~FN(beats)(FN(load)(a + i), bound, !kept->largest) & (unsigned)((1ull << LANES) - 1); left; left &= left - 1) {
            const int place = i + lowest_bit(left);
            FN(offer)(kept, a[place], column + place);
        }
    return whole;
}

/* Four registers of values are compared with the worst that is kept; only those that beat it are looked at. */
static void FN(keep_best)(const FN(context) * s, const T *a, int r, int component) {
    const job *w = s->work;
    const ptrdiff_t at = ((ptrdiff_t)r * w->n_out + component) * w->best;
    const FN(shelf) kept = {s->values + at, s->indices + at, w->best, w->largest, w->nan_first};
    const int last = w->best - 1;
    int i = 0;
    if (kept.indices[0] < 0 && w->best <= LANES && !w->nan_first && s->n >= 4 * LANES) i = FN(keep_first)(&kept, a, s->n, s->column);
    for (; i < s->n && kept.indices[last] < 0; i++) FN(offer)(&kept, a[i], s->column + i);
    for (; i + 4 * LANES <= s->n; i += 4 * LANES) {
        const V worst = FN(all)(kept.values[last]);
        unsigned any = 0;
        for (int q = 0; q < 4; q++) any |= FN(beats)(FN(load)(a + i + q * LANES), worst, w->largest);
        if (!any) continue;
        uint64_t left = 0;
        for (int q = 0; q < 4; q++) left |= (uint64_t)FN(beats)(FN(load)(a + i + q * LANES), worst, w->largest) << q * LANES;
        for (; left; left &= left - 1) {
            const int place = i + lowest_bit(left);
            if (a[place] != a[place] || w->nan_first)
                FN(offer)(&kept, a[place], s->column + place);
            else if (w->largest ? !(a[place] <= kept.values[last]) : !(a[place] >= kept.values[last]))
                FN(insert)(&kept, a[place], s->column + place);
        }
    }
    for (; i < s->n; i++) FN(offer)(&kept, a[i], s->column + i);
}

/* ---- entries -------------------------------------------------------------------------------------------------- */

static void FN(keep_entries)(const FN(context) * s, const T *a, int r, int component) {
    const int wide = s->work->n_out;
    T *out = s->entries + (ptrdiff_t)r * s->work->N * wide + component;
    if (wide == 1)
        memcpy(out, a, s->n * sizeof(T));
    else
        for (int i = 0; i < s->n; i++) out[(ptrdiff_t)i * wide] = a[i];
}
