/* Sums of Gaussians as one loop: SqDist, ExpScaled and the OutSum or OutDot of one result, where they are a whole program.
 *
 * A few rows by two registers of columns stay in registers from the distance to the sum, so the tile is neither written
 * nor read. Columns that fill no register cost as much as one that is full, which counts where ranges cut tiles.
 */

/* All bits of the first few lanes, none of the others. */
V_INLINE VBITS FN(first_lanes)(int count) {
    static const BITS edge[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}; /* then zeros */
    VBITS mask;
    memcpy(&mask, edge + 16 - count, sizeof mask);
    return mask;
}

/* sums[r] = sum over n columns of 2^(scale_r |x_r - y|^2) b, or without b where `alone`. */
V_INLINE void FN(gaussian)(int rows, int alone, const T *x, ptrdiff_t next, const T *y, int d, const T *scale, const T *b, int n, T sums[4]) {
    const int whole = n - n % LANES;
    V total[4];
    for (int r = 0; r < 4; r++) total[r] = FN(all)(0);
    for (int i = 0; i < n; i += FN(BLOCK) * LANES) {
        V value[4][FN(BLOCK)];
        FN(contract_component)(OP_SqDist, rows, 1, value, x, next, y + i, x, next);
        for (int k = 1; k < d; k++) FN(contract_component)(OP_SqDist, rows, 0, value, x + k, next, y + (ptrdiff_t)k * TILE_WIDTH + i, x, next);
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < FN(BLOCK); q++) value[r][q] = FN(exp2)(value[r][q] * FN(all)(scale[r]));
        for (int q = 0; q < FN(BLOCK); q++) {
            const int at = i + q * LANES;
            if (at < whole) {
                const V column = alone ? FN(all)(1) : FN(load)(b + at);
                for (int r = 0; r < rows; r++) total[r] += alone ? value[r][q] : value[r][q] * column;
            } else if (at == whole && at < n) { /* the last columns fill no register: the lanes beyond add 0 */
                const VBITS mine = FN(first_lanes)(n - whole);
                const V column = alone ? FN(all)(1) : FN(load)(b + at);
                for (int r = 0; r < rows; r++)
                    total[r] += FN(of_bits)(FN(bits_of)(alone ? value[r][q] : value[r][q] * column) & mine);
            }
        }
    }
    FN(sum_lanes)(total, sums);
}

#define GAUSSIAN(rows)                                                                                                 \
    static V_ALONE void FN(gaussian##rows)(const T *x, ptrdiff_t next, const T *y, int d, const T *scale, const T *b, int n, T *sums) { \
        if (b)                                                                                                         \
            FN(gaussian)(rows, 0, x, next, y, d, scale, b, n, sums);                                                   \
        else                                                                                                           \
            FN(gaussian)(rows, 1, x, next, y, d, scale, b, n, sums);                                                   \
    }
GAUSSIAN(4)
GAUSSIAN(1)
#undef GAUSSIAN

/* Whether the instructions from p on are such a sum, and all of what is left of the program. A mirrored sum needs the
 * tile once more, and sums in double take each exponential by itself. */
static int FN(is_gaussian)(const job *w, const instruction *p) {
    if (p + 3 != w->pair.code + w->pair.length || w->mirrored || w->wide_sums) return 0;
    if (p[0].op != OP_SqDist || p[0].b.place != IN_COL || p[1].op != OP_ExpScaled) return 0;
    if (p[1].a.place != IN_TILE || p[1].a.base != p[0].out.base) return 0;
    if (p[2].a.place != IN_TILE || p[2].a.base != p[1].out.base) return 0;
    return p[2].op == OP_OutSum || (p[2].op == OP_OutDot && p[2].b.place == IN_COL && p[2].aux1 == 1);
}

/* Runs them; whether that was done, which it is not where a scale is out of range. */
static int FN(out_gaussian)(const FN(context) * s, const instruction *p) {
    if (!FN(is_gaussian)(s->work, p)) return 0;
    T scales[ROWS_PER_TASK_MAX];
    for (int r = 0; r < s->rows; r++)
        if (!FN(scale_of_exp)(FN(scalar)(s, p[1].b, 0, r), scales + r)) return 0;
    const T *x = s->row + p[0].a.base, *y = FN(columns)(s, p[0].b, 0, 0), *b = p[2].op == OP_OutDot ? FN(columns)(s, p[2].b, 0, 0) : NULL;
    for (int r = 0, step; r < s->rows; r += step) {
        step = s->rows - r < 4 ? 1 : 4;
        for (int i = 0; i < s->n; i += FN(PIECE)) {
            T sums[4];
            (step == 4 ? FN(gaussian4) : FN(gaussian1))(x + (ptrdiff_t)r * s->row_stride, s->row_stride, y + i, p[0].aux0, scales + r,
                                                        b ? b + i : NULL, s->n - i < FN(PIECE) ? s->n - i : FN(PIECE), sums);
            FN(add_block)(s, r, p[2].aux0, step, 1, sums);
        }
    }
    return 1;
}
