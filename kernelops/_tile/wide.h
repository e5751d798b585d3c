/* Squared distances of long vectors as |x|^2 + |y|^2 - 2 x.y, which takes half the arithmetic of the difference form.
 *
 * x and y are shifted to the mean c of the columns first. With u half an eps, x.y summed in float has an error of at most
 * D u (|x|^2 + |y|^2)/2, the norms (summed in double) and the two sums add 3 u (|x|^2 + |y|^2), and the rounding of x - c
 * and y - c no more than 3 u (|x|^2 + |y|^2): altogether (D + 6) u (|x|^2 + |y|^2). So where the result p is at least a
 * quarter of |x|^2 + |y|^2 its relative error is at most 4 (D + 6) u, four times what the difference form may have. Pairs
 * that are closer, or not finite, are computed from x - y as given. Where that is so for most of a tile, the rest of the
 * work takes the difference form from the start.
 *
 * A row holds x at a.base, x - c and |x - c|^2 at c.base; a column y at b.base, y - c and |y - c|^2 at aux1.
 */

enum { FN(WIDE_ROWS) = REGISTER_BYTES == 64 ? 8 : 4 };

/* p for a block of rows and two registers of columns; the bits of the pairs that are too close, per row. */
V_INLINE void FN(wide_block)(int rows, T *out, const T *x, ptrdiff_t next, const T *y, int d, unsigned *close) {
    V dot[FN(WIDE_ROWS)][2];
    for (int r = 0; r < rows; r++) dot[r][0] = dot[r][1] = FN(all)(0);
    for (int k = 0; k < d; k++) {
        const V y0 = FN(load)(y + (ptrdiff_t)k * TILE_WIDTH), y1 = FN(load)(y + (ptrdiff_t)k * TILE_WIDTH + LANES);
        for (int r = 0; r < rows; r++) {
            const V a = FN(all)(x[r * next + k]);
            dot[r][0] += a * y0;
            dot[r][1] += a * y1;
        }
    }
    for (int r = 0; r < rows; r++) {
        close[r] = 0;
        for (int q = 0; q < 2; q++) {
            const V size = x[r * next + d] + FN(load)(y + (ptrdiff_t)d * TILE_WIDTH + q * LANES), p = size - 2 * dot[r][q];
            FN(store)(out + r * TILE_WIDTH + q * LANES, p);
            close[r] |= FN(beats)(p, size * (T)0.25, 0) << q * LANES;
        }
    }
}

static void FN(wide_many)(T *out, const T *x, ptrdiff_t next, const T *y, int d, unsigned *close) {
    FN(wide_block)(FN(WIDE_ROWS), out, x, next, y, d, close);
}

static void FN(wide_one)(T *out, const T *x, ptrdiff_t next, const T *y, int d, unsigned *close) {
    FN(wide_block)(1, out, x, next, y, d, close);
}

static T FN(plain_distance)(const T *x, const T *y, int d) {
    T sum = 0;
    for (int k = 0; k < d; k++) sum += (x[k] - y[(ptrdiff_t)k * TILE_WIDTH]) * (x[k] - y[(ptrdiff_t)k * TILE_WIDTH]);
    return sum;
}

static void FN(wide_distances)(const FN(context) * s, const instruction *p) {
    const T *x = s->row + p->c.base, *y = s->col + (ptrdiff_t)p->aux1 * TILE_WIDTH;
    const T *plain_x = s->row + p->a.base, *plain_y = s->col + (ptrdiff_t)p->b.base * TILE_WIDTH;
    T *out = FN(plane)(s, p->out, 0, 0);
    if (*s->close) {
        FN(contract)(s, p);
        return;
    }
    int count = 0;
    for (int i = 0; i < s->n; i += 2 * LANES)
        for (int r = 0, rows; r < s->rows; r += rows) {
            unsigned close[FN(WIDE_ROWS)];
            rows = s->rows - r < FN(WIDE_ROWS) ? 1 : FN(WIDE_ROWS);
            (rows == 1 ? FN(wide_one) : FN(wide_many))(out + r * TILE_WIDTH + i, x + (ptrdiff_t)r * s->row_stride, s->row_stride, y + i,
                                                       p->aux0, close);
            for (int q = 0; q < rows; q++)
                for (; close[q]; close[q] &= close[q] - 1) {
                    const int at = i + lowest_bit(close[q]);
                    if (at >= s->n) break;
                    out[(r + q) * TILE_WIDTH + at] = FN(plain_distance)(plain_x + (ptrdiff_t)(r + q) * s->row_stride, plain_y + at, p->aux0);
                    count++;
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

/* y - c and its square for the columns of one tile. */
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
            SIMD for (int i = 0; i < TILE_WIDTH; i++) {
                const T v = y[(ptrdiff_t)k * TILE_WIDTH + i] - centre[k];
                shifted[(ptrdiff_t)k * TILE_WIDTH + i] = v;
                square[i] += (double)v * (double)v;
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
