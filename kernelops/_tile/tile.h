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
    T *entries;           /* of the first row and column of the tile */
    int *close; /* most pairs of this piece of work are too close for WideSqDist */
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
