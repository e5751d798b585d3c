/* Squared distances of long vectors as |x|^2 + |y|^2 - 2 x.y, which takes half the arithmetic of the difference form.
 *
 * x and y are shifted to the mean c of the columns first. With u half an eps, x.y summed in float has an error of at most
 * D u (|x|^2 + |y|^2)/2, the norms (summed in double) and the two sums add 3 u (|x|^2 + |y|^2), and the rounding of x - c
 * and y - c no more than 3 u (|x|^2 + |y|^2): altogether (D + 6) u (|x|^2 + |y|^2). So where the result p is at least a
 * quarter of |x|^2 + |y|^2 its relative error is at most 4 (D + 6) u, four times what the difference form may have. Pairs
 * that are closer, or not finite, are computed from x - y as given. Where that is so for most of a tile, the rest of the
 * work takes the difference form from the start.
 *
 * A row holds x at a.base, x - c and |x - c|^2 at c.base; a column y at b.base, y - c and |y - c|^2 at aux1. The columns'
 * y - c lie in panels of two registers of columns, WIDE_PANEL numbers for each component, one panel after another: a
 * product reads memory from one end to the other.
 */

enum { FN(WIDE_ROWS) = REGISTER_BYTES == 64 ? 8 : 4, FN(WIDE_DEPTH) = 512 / sizeof(T), FN(WIDE_PANEL) = 2 * LANES };

/* out = or += the dot products of a block of rows with a panel of columns, `depth` components of them.
 *
 * The caches near the processor hold few columns, so what comes next, at `ahead`, is asked for while this is computed:
 * each block of rows asks for its share. */
V_INLINE void FN(wide_dots)(int rows, int first, T *out, const T *x, ptrdiff_t next, const T *y, int depth, const T *ahead) {
    enum { SHARE = FN(WIDE_PANEL) * sizeof(T) * FN(WIDE_ROWS) / ROWS_PER_TASK_MAX };
    V dot[FN(WIDE_ROWS)][2];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < 2; q++) dot[r][q] = first ? FN(all)(0) : FN(load)(out + r * TILE_WIDTH + q * LANES);
    for (int k = 0; k < depth; k++) {
        const V y0 = FN(load)(y + k * FN(WIDE_PANEL)), y1 = FN(load)(y + k * FN(WIDE_PANEL) + LANES);
        if (rows > 1) PREFETCH((const char *)ahead + k * SHARE);
        for (int r = 0; r < rows; r++) {
            const V a = FN(all)(x[r * next + k]);
            dot[r][0] += a * y0;
            dot[r][1] += a * y1;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < 2; q++) FN(store)(out + r * TILE_WIDTH + q * LANES, dot[r][q]);
}

static V_ALONE void FN(wide_many)(int first, T *out, const T *x, ptrdiff_t next, const T *y, int depth, const T *ahead) {
    FN(wide_dots)(FN(WIDE_ROWS), first, out, x, next, y, depth, ahead);
}

static void FN(wide_one)(int first, T *out, const T *x, ptrdiff_t next, const T *y, int depth, const T *ahead) {
    FN(wide_dots)(1, first, out, x, next, y, depth, ahead);
}

/* The columns from the one at `skip` of a panel to the same one of the next panel, of which `n` are wanted: past them
 * there may be no panel. Pieces have one size, and what is too much of one is written over by the next. */
static void FN(straddle)(T *copy, const T *panel, int skip, int n, int d, int depth) {
    const int left = FN(WIDE_PANEL) - skip;
    const T *beyond = n > left ? panel + (ptrdiff_t)d * FN(WIDE_PANEL) : panel;
    for (int k = 0; k < depth * FN(WIDE_PANEL); k += FN(WIDE_PANEL)) {
        memcpy(copy + k, panel + k + skip, FN(WIDE_PANEL) * sizeof(T));
        memcpy(copy + k + left, beyond + k, FN(WIDE_PANEL) * sizeof(T));
    }
}

/* The dot products of all rows of the tile with one panel's width of columns, some components after others. The columns
 * begin `skip` columns within `panel`: ranges may begin anywhere. */
static void FN(wide_columns)(const FN(context) * s, T *out, const T *x, const T *panel, int skip, int n, int d) {
    T copy[(FN(WIDE_DEPTH) + 1) * FN(WIDE_PANEL)];
    for (int k = 0, depth; k < d; k += depth) {
        const T *y = panel + (ptrdiff_t)k * FN(WIDE_PANEL), *ahead;
        depth = d - k < FN(WIDE_DEPTH) ? d - k : FN(WIDE_DEPTH);
        ahead = y + depth * FN(WIDE_PANEL);
        if (skip) FN(straddle)(copy, y, skip, n, d, depth);
        for (int r = 0, rows; r < s->rows; r += rows) {
            rows = s->rows - r < FN(WIDE_ROWS) ? 1 : FN(WIDE_ROWS);
            (rows == 1 ? FN(wide_one) : FN(wide_many))(k == 0, out + r * TILE_WIDTH, x + (ptrdiff_t)r * s->row_stride + k, s->row_stride,
                                                       skip ? copy : y, depth, ahead + depth * FN(WIDE_PANEL) * r / ROWS_PER_TASK_MAX);
        }
    }
}

static T FN(plain_distance)(const T *x, const T *y, int d) {
    T sum = 0;
    for (int k = 0; k < d; k++) sum += (x[k] - y[(ptrdiff_t)k * TILE_WIDTH]) * (x[k] - y[(ptrdiff_t)k * TILE_WIDTH]);
    return sum;
}

static void FN(wide_distances)(const FN(context) * s, const instruction *p) {
    const int before = (int)(s->column % TILE_WIDTH), skip = before % FN(WIDE_PANEL);
    const T *x = s->row + p->c.base, *square = s->col + (ptrdiff_t)(p->aux1 + p->aux0) * TILE_WIDTH;
    const T *panel = s->col - before + (ptrdiff_t)p->aux1 * TILE_WIDTH + (ptrdiff_t)(before - skip) * p->aux0;
    const T *plain_x = s->row + p->a.base, *plain_y = s->col + (ptrdiff_t)p->b.base * TILE_WIDTH;
    T *out = FN(plane)(s, p->out, 0, 0);
    if (*s->close) {
        FN(contract)(s, p);
        return;
    }
    int count = 0;
    for (int i = 0; i < s->n; i += FN(WIDE_PANEL)) {
        FN(wide_columns)(s, out + i, x, panel + (ptrdiff_t)i * p->aux0, skip, s->n - i, p->aux0);
        for (int r = 0; r < s->rows; r++) {
            const T *of_row = x + (ptrdiff_t)r * s->row_stride, *own = plain_x + (ptrdiff_t)r * s->row_stride;
            T *distance = out + r * TILE_WIDTH;
            for (int q = i; q < i + FN(WIDE_PANEL); q += LANES) {
                const V size = of_row[p->aux0] + FN(load)(square + q), found = size - 2 * FN(load)(distance + q);
                FN(store)(distance + q, found);
                for (unsigned close = FN(beats)(found, size * (T)0.25, 0); close; close &= close - 1) {
                    const int at = q + lowest_bit(close);
                    if (at >= s->n) break;
                    distance[at] = FN(plain_distance)(own, plain_y + at, p->aux0);
                    count++;
                }
            }
        }
    }
    *s->close = count > s->rows * s->n / 16;
}

/* The mean of one component over all columns; item counts batch elements times components of all pairs of vectors. */
static void FN(do_centre)(const job *w, int64_t item, void *scratch) {
    const int64_t tiles = (w->N + TILE_WIDTH - 1) / TILE_WIDTH, batch = item / w->n_centres;
    int64_t k = item % w->n_centres;
    const int32_t *pair = w->centred;
    while (k >= pair[4]) k -= pair[4], pair += 5;
    double sum = 0;
    (void)scratch;
    for (int64_t tile = 0; tile < tiles; tile++) {
        const T *y = (const T *)w->packed + ((batch * tiles + tile) * w->col.n_exports + pair[1] + k) * TILE_WIDTH;
        const int n = (int)(w->N - tile * TILE_WIDTH < TILE_WIDTH ? w->N - tile * TILE_WIDTH : TILE_WIDTH);
        SIMD_SUM(sum) for (int i = 0; i < n; i++) sum += (double)y[i];
    }
    ((T *)w->centres)[item] = (T)(sum / (double)w->N);
}

/* y - c, in panels, and its square for the columns of one tile. */
static void FN(do_shift)(const job *w, int64_t item, void *scratch) {
    const int64_t tiles = (w->N + TILE_WIDTH - 1) / TILE_WIDTH;
    const T *centre = (const T *)w->centres + item / tiles * w->n_centres;
    T *tile = (T *)w->packed + item * w->col.n_exports * TILE_WIDTH;
    (void)scratch;
    for (const int32_t *pair = w->centred; pair < w->centred + 5 * w->n_centred; centre += pair[4], pair += 5) {
        const T *y = tile + (ptrdiff_t)pair[1] * TILE_WIDTH;
        T *shifted = tile + (ptrdiff_t)pair[3] * TILE_WIDTH;
        double square[TILE_WIDTH] = {0};
        for (int k = 0; k < pair[4]; k++)
            for (int i = 0; i < TILE_WIDTH; i += FN(WIDE_PANEL)) {
                const T *from = y + (ptrdiff_t)k * TILE_WIDTH + i;
                T *panel = shifted + (ptrdiff_t)i * pair[4] + (ptrdiff_t)k * FN(WIDE_PANEL);
                SIMD for (int q = 0; q < FN(WIDE_PANEL); q++) {
                    panel[q] = from[q] - centre[k];
                    square[i + q] += (double)panel[q] * (double)panel[q];
                }
            }
        for (int i = 0; i < TILE_WIDTH; i++) shifted[(ptrdiff_t)pair[4] * TILE_WIDTH + i] = (T)square[i];
    }
}

/* x - c and its square for n rows. */
static void FN(shift_rows)(const job *w, T *rows, int64_t batch, int n) {
    const T *centre = (const T *)w->centres + batch * w->n_centres;
    for (const int32_t *pair = w->centred; pair < w->centred + 5 * w->n_centred; centre += pair[4], pair += 5)
        for (int i = 0; i < n; i++) {
            const T *x = rows + (ptrdiff_t)i * w->row.n_exports + pair[0];
            T *shifted = rows + (ptrdiff_t)i * w->row.n_exports + pair[2];
            double square = 0;
            for (int k = 0; k < pair[4]; k++) {
                shifted[k] = x[k] - centre[k];
                square += (double)shifted[k] * (double)shifted[k];
            }
            shifted[pair[4]] = (T)square;
        }
}
