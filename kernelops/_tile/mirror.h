/* Sums whose pair values are the same with i and j exchanged: each pair of blocks is evaluated once and used for the
 * rows of both. Included after task.h.
 *
 * Pairs of blocks run in rounds; within a round no block occurs twice, so the threads add to disjoint rows of the result
 * and every row receives its parts in the order of the rounds, whichever thread runs a pair.
 */

/* side[q*TILE_WIDTH + j] += sum over rows of a_rj * weight[q*TILE_WIDTH + r], for a few rows and results */
V_INLINE void FN(add_side)(int rows, int count, const T *a, const T *weight, T *side, int n) {
    V of_row[4][4];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < count; q++) of_row[r][q] = FN(all)(weight[q * TILE_WIDTH + r]);
    for (int i = 0; i < n; i += LANES) {
        V sum[4];
        for (int q = 0; q < count; q++) sum[q] = FN(load)(side + q * TILE_WIDTH + i);
        for (int r = 0; r < rows; r++) {
            const V value = FN(load)(a + r * TILE_WIDTH + i);
            for (int q = 0; q < count; q++) sum[q] += value * of_row[r][q];
        }
        for (int q = 0; q < count; q++) FN(store)(side + q * TILE_WIDTH + i, sum[q]);
    }
}

#define SIDE(rows, count)                                                                                              \
    static void FN(side##rows##by##count)(const T *a, const T *weight, T *side, int n) {                               \
        FN(add_side)(rows, count, a, weight, side, n);                                                                 \
    }
SIDE(1, 1)
SIDE(4, 1)
SIDE(1, 2)
SIDE(4, 2)
SIDE(1, 4)
SIDE(4, 4)
#undef SIDE

static void FN(add_sides)(const FN(context) * s, const T *a, const T *weight, ptrdiff_t step_weight, T *side, int count) {
    typedef void (*sider)(const T *, const T *, T *, int);
    static const sider all[3][2] = {{FN(side1by1), FN(side4by1)}, {FN(side1by2), FN(side4by2)}, {FN(side1by4), FN(side4by4)}};
    const int widest = REGISTER_BYTES == 64 ? 2 : 1;
    for (int q = 0, wide; q < count; q += 1 << wide) {
        wide = count - q >= 4 ? 2 : count - q >= 2 ? 1 : 0;
        wide = wide < widest ? wide : widest;
        for (int r = 0, rows; r < s->rows; r += rows) {
            rows = s->rows - r < 4 ? 1 : 4;
            all[wide][rows == 4](a + r * TILE_WIDTH, weight + q * step_weight + r, side + q * TILE_WIDTH, s->n);
        }
    }
}

/* The rows' exported components of up to ROWS_PER_TASK_MAX rows, kept for all pairs of blocks. */
static void FN(do_rows)(const job *w, int64_t item, void *scratch) {
    const int64_t chunks = (w->M + ROWS_PER_TASK_MAX - 1) / ROWS_PER_TASK_MAX, batch = item / chunks;
    const int64_t first = item % chunks * ROWS_PER_TASK_MAX;
    FN(room) room;
    FN(furnish)(w, scratch, &room);
    room.rows = (T *)w->rows + (batch * w->M + first) * w->row.n_exports;
    FN(load_rows)(w, &room, batch, first, (int)(w->M - first < ROWS_PER_TASK_MAX ? w->M - first : ROWS_PER_TASK_MAX));
}

/* Rows first .. first+n-1 against the columns of one tile; the tile's rows get theirs too, unless it holds the diagonal. */
static void FN(do_mirrored)(const job *w, FN(context) * s, T *side, int64_t batch, int64_t first, int n, int diagonal) {
    static const T ones[ROWS_PER_TILE_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
    const instruction *last = w->pair.code + w->pair.length - 1;
    const T *packed = (const T *)w->packed + batch * ((w->N + TILE_WIDTH - 1) / TILE_WIDTH) * w->col.n_exports * TILE_WIDTH;
    memset(side, 0, sizeof(T) * TILE_WIDTH * w->n_out);
    for (int r = 0; r < n; r += w->rows_per_tile) {
        const int64_t row = first + r;
        const T *own = packed + row / TILE_WIDTH * w->col.n_exports * TILE_WIDTH + row % TILE_WIDTH;
        s->rows = n - r < w->rows_per_tile ? n - r : w->rows_per_tile;
        s->row = (const T *)w->rows + (batch * w->M + row) * w->row.n_exports;
        s->sums = w->sums + (batch * w->M + row) * w->n_out;
        FN(run)(s, w->pair.code, 0, w->pair.length, 0);
        if (diagonal) continue;
        if (last->op == OP_OutSum)
            FN(add_sides)(s, FN(plane)(s, last->a, 0, 0), ones, 0, side, 1);
        else
            FN(add_sides)(s, FN(plane)(s, last->a, 0, 0), own + (ptrdiff_t)last->b.base * TILE_WIDTH, TILE_WIDTH, side, w->n_out);
    }
    if (diagonal) return;
    double *sums = w->sums + (batch * w->M + s->column) * w->n_out;
    for (int q = 0; q < w->n_out; q++)
        for (int i = 0; i < s->n; i++) sums[(ptrdiff_t)i * w->n_out + q] += (double)side[q * TILE_WIDTH + i];
}

/* Rows task[0] .. task[1]-1 of one batch element against the points task[2] .. task[3]-1, and the other way round. */
static void FN(do_pair)(const job *w, int64_t item, void *scratch) {
    const int64_t batch = item % w->batch, *task = w->tasks + 4 * (item / w->batch);
    const int64_t tiles = (w->N + TILE_WIDTH - 1) / TILE_WIDTH;
    FN(room) room;
    FN(furnish)(w, scratch, &room);
    FN(context) s = {.tile = room.tile, .params = (const T *)w->params + batch * w->n_params, .row_stride = w->row.n_exports,
                     .rows_per_tile = w->rows_per_tile, .work = w};
    for (int64_t first = task[0]; first < task[1]; first += ROWS_PER_TASK_MAX) {
        const int n = (int)(task[1] - first < ROWS_PER_TASK_MAX ? task[1] - first : ROWS_PER_TASK_MAX);
        for (int64_t from = task[2]; from < task[3]; from += s.n) {
            const int64_t end = (from / TILE_WIDTH + 1) * TILE_WIDTH;
            s.col = (const T *)w->packed + (batch * tiles + from / TILE_WIDTH) * w->col.n_exports * TILE_WIDTH + from % TILE_WIDTH;
            s.column = from;
            s.n = (int)((end < task[3] ? end : task[3]) - from);
            FN(do_mirrored)(w, &s, room.side, batch, first, n, task[0] == task[2]);
        }
    }
}
