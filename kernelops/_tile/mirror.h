/* Sums whose pair values are the same with i and j exchanged: each pair of blocks is evaluated once and used for the
 * rows of both. Included after task.h.
 *
 * The points are cut into blocks of TILE_WIDTH, and the blocks sit around a table: each meets itself and the half of
 * the others that follow it. A strip is some neighbouring blocks and the window of blocks that they meet; it runs on one
 * thread, adds to the rows of its own blocks, and keeps what it has for the rows of its window in a buffer of its own.
 * The buffers are added to the result when all strips are done, strip after strip. How the strips are cut follows from
 * the number of points alone, so the result is the same to the bit whichever thread runs a strip, and no thread waits
 * for another.
 */

/* side[q*TILE_WIDTH + j] += sum over rows of a_rj * weight[q*TILE_WIDTH + r], for a few rows and results */
V_INLINE void FN(add_side)(int rows, int count, const T *a, const T *weight, T *side, int n) {
    V of_row[8][2];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < count; q++) of_row[r][q] = FN(all)(weight[q * TILE_WIDTH + r]);
    for (int i = 0; i < n; i += LANES) {
        V sum[2];
        for (int q = 0; q < count; q++) sum[q] = FN(load)(side + q * TILE_WIDTH + i);
        for (int r = 0; r < rows; r++) {
            const V value = FN(load)(a + r * TILE_WIDTH + i);
            for (int q = 0; q < count; q++) sum[q] += value * of_row[r][q];
        }
        for (int q = 0; q < count; q++) FN(store)(side + q * TILE_WIDTH + i, sum[q]);
    }
}

#define SIDE_ROWS (REGISTER_BYTES == 64 ? 8 : 4) /* whose weights stay in registers */
#define SIDE(name, rows, count)                                                                                        \
    static void FN(name##by##count)(const T *a, const T *weight, T *side, int n) {                               \
        FN(add_side)(rows, count, a, weight, side, n);                                                                 \
    }
SIDE(side1, 1, 1)
SIDE(side1, 1, 2)
SIDE(sides, SIDE_ROWS, 1)
SIDE(sides, SIDE_ROWS, 2)
#undef SIDE

/* Whole blocks of rows, then single ones. */
static void FN(add_sides)(const FN(context) * s, const T *a, const T *weight, ptrdiff_t step_weight, T *side, int count) {
    for (int q = 0, wide; q < count; q += wide) {
        wide = count - q >= 2 ? 2 : 1;
        for (int r = 0, rows; r < s->rows; r += rows) {
            rows = s->rows - r < SIDE_ROWS ? 1 : SIDE_ROWS;
            (rows == 1 ? wide == 2 ? FN(side1by2) : FN(side1by1) : wide == 2 ? FN(sidesby2) : FN(sidesby1))(
                a + r * TILE_WIDTH, weight + q * step_weight + r, side + (ptrdiff_t)q * TILE_WIDTH, s->n);
        }
    }
}

static int64_t FN(first_point)(const job *w, int64_t block) { return block * TILE_WIDTH < w->N ? block * TILE_WIDTH : w->N; }

/* n rows, held in room->rows, from `first` on against the columns of one block; what the block's rows get goes to `side`. */
static void FN(do_mirrored)(const job *w, FN(context) * s, const FN(room) * room, int64_t batch, int64_t first, int n, double *side) {
    static const T ones[ROWS_PER_TASK_MAX] = {ONES_64};
    const instruction *last = w->pair.code + w->pair.length - 1;
    const ptrdiff_t own = first / TILE_WIDTH * w->col.n_exports * TILE_WIDTH + first % TILE_WIDTH;
    const T *weights = last->op == OP_OutSum ? ones : room->packed + own + (ptrdiff_t)last->b.base * TILE_WIDTH;
    if (side) memset(room->side, 0, sizeof(T) * TILE_WIDTH * w->n_out);
    for (int r = 0; r < n; r += w->rows_per_tile) {
        s->rows = n - r < w->rows_per_tile ? n - r : w->rows_per_tile;
        s->row = room->rows + (ptrdiff_t)r * w->row.n_exports;
        s->sums = w->sums + (batch * w->M + first + r) * w->n_out;
        FN(run)(s, w->pair.code, 0, w->pair.length, 0);
        if (!side) continue;
        if (last->op == OP_OutSum)
            FN(add_sides)(s, FN(plane)(s, last->a, 0, 0), ones, 0, room->side, 1);
        else
            FN(add_sides)(s, FN(plane)(s, last->a, 0, 0), weights + r, TILE_WIDTH, room->side, w->n_out);
    }
    if (!side) return;
    for (int q = 0; q < w->n_out; q++)
        for (int i = 0; i < s->n; i++) side[(ptrdiff_t)q * TILE_WIDTH + i] += (double)room->side[(ptrdiff_t)q * TILE_WIDTH + i];
}

/* Blocks strip.from .. strip.to-1 (counted from its first) of one strip; item counts batch elements times strips. */
static void FN(do_strip)(const job *w, int64_t item, void *scratch) {
    const strips *all = &w->strips;
    const int64_t batch = item / all->count, strip = item % all->count, begin = strip * all->width, blocks = all->blocks;
    int close = 0;
    FN(room) room;
    FN(furnish)(w, scratch, &room);
    room.packed = (const T *)w->packed + batch * blocks * w->col.n_exports * TILE_WIDTH;
    FN(context) s = {.tile = room.tile, .params = (const T *)w->params + batch * w->n_params, .row_stride = w->row.n_exports,
                     .rows_per_tile = w->rows_per_tile, .work = w, .close = &close};
    double *sides = w->sides + strip * all->window * TILE_WIDTH * w->n_out;
    for (int64_t b = begin + all->from; b < begin + all->to && b < begin + all->width && b < blocks; b++) {
        /* of two blocks that sit opposite each other the first meets the second */
        const int64_t met = (blocks - 1) / 2 + (blocks % 2 == 0 && b < blocks / 2);
        for (int64_t first = FN(first_point)(w, b), n; first < FN(first_point)(w, b + 1); first += n) {
            n = FN(first_point)(w, b + 1) - first;
            n = n < ROWS_PER_TASK_MAX ? n : ROWS_PER_TASK_MAX;
            FN(load_rows)(w, &room, batch, first, (int)n);
            close = 0;
            for (int64_t step = 0; step <= met; step++) {
                const int64_t other = (b + step) % blocks;
                if (all->held && !all->held[b * blocks + other]) continue;
                s.col = room.packed + other * w->col.n_exports * TILE_WIDTH;
                s.column = FN(first_point)(w, other);
                s.n = (int)(FN(first_point)(w, other + 1) - s.column);
                double *side = sides + (b + step - begin) * TILE_WIDTH * w->n_out;
                FN(do_mirrored)(w, &s, &room, batch, first, (int)n, step ? side : NULL);
            }
        }
    }
}

/* What the strips have for the rows of one block, added in the order of the strips; item counts batch elements times blocks. */
static void FN(do_merge)(const job *w, int64_t item, void *scratch) {
    const strips *all = &w->strips;
    const int64_t batch = item / all->blocks, block = item % all->blocks;
    const int64_t first = FN(first_point)(w, block), n = FN(first_point)(w, block + 1) - first;
    double *sums = w->sums + (batch * w->M + first) * w->n_out;
    (void)scratch;
    for (int64_t strip = 0; strip < all->count; strip++) {
        const int64_t place = (block - strip * all->width + all->blocks) % all->blocks;
        const double *side = w->sides + (strip * all->window + place) * TILE_WIDTH * w->n_out;
        if (place < all->window)
            for (int64_t i = 0; i < n; i++)
                for (int q = 0; q < w->n_out; q++) sums[i * w->n_out + q] += side[(ptrdiff_t)q * TILE_WIDTH + i];
    }
}
