/* One piece of work for one precision (T) and one instruction set.
 *
 * A call runs pieces of a few kinds, each by itself on one thread: the parameters of a batch element, the packing of
 * one tile of columns, one block of rows of the result against all its columns; wide.h and mirror.h have more. Which
 * thread runs a piece changes nothing in it, so results are the same to the bit for any number of threads.
 */

static T FN(read)(const variable *v, int64_t batch, int64_t row, int component) {
    const char *at = v->start[batch] + row * v->row + component * v->component;
    return v->is_double ? (T)double_at(at) : (T)float_at(at);
}

/* Rows first .. first+n-1 of a stage's variables, as planes of a tile of one row. */
static void FN(fetch)(const job *w, const stage *g, T *tile, int64_t batch, int64_t first, int n) {
    for (int q = 0; q < g->n_loads; q++) {
        const variable *v = w->variables + g->loads[3 * q];
        for (int k = 0; k < g->loads[3 * q + 1]; k++) {
            T *plane = tile + (ptrdiff_t)(g->loads[3 * q + 2] + k) * TILE_WIDTH;
            const char *at = v->start[batch] + first * v->row + k * v->component;
            if (v->is_double)
                for (int i = 0; i < n; i++) plane[i] = (T)double_at(at + i * v->row);
            else
                for (int i = 0; i < n; i++) plane[i] = (T)float_at(at + i * v->row);
        }
    }
}

static void FN(run_stage)(const job *w, const stage *g, T *tile, const T *params, int n) {
    FN(context) s = {.tile = tile, .params = params, .rows = 1, .rows_per_tile = 1, .n = n, .work = w};
    FN(run)(&s, g->code, 0, g->length, 0);
}

static void FN(do_params)(const job *w, int64_t batch, void *scratch) {
    T *params = (T *)w->params + batch * w->n_params, *tile = scratch;
    for (int k = 0; k < w->n_constants; k++) params[k] = (T)w->constants[k];
    for (int q = 0; q < w->param.n_loads; q++)
        for (int k = 0; k < w->param.loads[3 * q + 1]; k++)
            params[w->param.loads[3 * q + 2] + k] = FN(read)(w->variables + w->param.loads[3 * q], batch, 0, k);
    FN(run_stage)(w, &w->param, tile, params, 1);
    for (int e = 0; e < w->param.n_exports; e++)
        params[w->n_params - w->param.n_exports + e] = tile[(ptrdiff_t)w->param.exports[e] * TILE_WIDTH];
}

static void FN(do_pack)(const job *w, int64_t item, void *scratch) {
    const int64_t tiles = (w->N + TILE_WIDTH - 1) / TILE_WIDTH, batch = item / tiles, first = item % tiles * TILE_WIDTH;
    const int n = (int)(w->N - first < TILE_WIDTH ? w->N - first : TILE_WIDTH);
    T *tile = scratch, *out = (T *)w->packed + item * w->col.n_exports * TILE_WIDTH;
    FN(fetch)(w, &w->col, tile, batch, first, n);
    FN(run_stage)(w, &w->col, tile, (const T *)w->params + batch * w->n_params, n);
    for (int e = 0; e < w->col.n_exports; e++, out += TILE_WIDTH) {
        if (w->col.exports[e] < 0) continue;
        memcpy(out, tile + (ptrdiff_t)w->col.exports[e] * TILE_WIDTH, n * sizeof(T));
        for (int i = n; i < TILE_WIDTH; i++) out[i] = 0;
    }
}

/* Where a block of rows keeps what it needs; the parts of one piece of memory. */
typedef struct {
    double *sums, *lost, *maxima;
    int64_t *indices;
    T *values, *rows, *tile, *side;
    const T *packed;
} FN(room);

static size_t FN(furnish)(const job *w, char *memory, FN(room) * room) {
    size_t used = 0;
#define PART(field, type, count)                                                                                       \
    room->field = (type *)(memory + used);                                                                             \
    used += (((size_t)(count) * sizeof(type)) + 63) / 64 * 64;
    const size_t rows = ROWS_PER_TASK_MAX, out = rows * w->n_out, kept = out * w->best;
    const size_t pair = (size_t)w->pair.planes * w->rows_per_tile, low = w->row.planes > w->col.planes ? w->row.planes : w->col.planes;
    const size_t param = w->param.planes, most = pair > low ? (pair > param ? pair : param) : low > param ? low : param;
    PART(tile, T, (most + 1) * TILE_WIDTH) /* first: parameters and packing use the tile alone */
    PART(sums, double, out)
    PART(lost, double, out)
    PART(maxima, double, rows)
    PART(indices, int64_t, kept)
    PART(values, T, kept)
    PART(rows, T, rows *w->row.n_exports + 1)
    PART(side, T, w->mirrored ? (size_t)w->n_out * TILE_WIDTH : 0)
#undef PART
    return used;
}

static size_t FN(scratch_bytes)(const job *w) {
    FN(room) room;
    return FN(furnish)(w, NULL, &room);
}

static void FN(load_rows)(const job *w, const FN(room) * room, int64_t batch, int64_t first, int n) {
    const int width = w->row.n_exports;
    if (!width) return;
    FN(fetch)(w, &w->row, room->tile, batch, first, n);
    FN(run_stage)(w, &w->row, room->tile, (const T *)w->params + batch * w->n_params, n);
    for (int e = 0; e < width; e++) {
        const T *plane = room->tile + (ptrdiff_t)w->row.exports[e] * TILE_WIDTH;
        for (int i = 0; i < n && w->row.exports[e] >= 0; i++) room->rows[(ptrdiff_t)i * width + e] = plane[i];
    }
    FN(shift_rows)(w, room->rows, batch, n);
}

static void FN(clear)(const job *w, const FN(room) * room, int n) {
    const ptrdiff_t out = (ptrdiff_t)n * w->n_out, kept = out * w->best;
    for (ptrdiff_t q = 0; q < out; q++) room->sums[q] = room->lost[q] = 0;
    for (int i = 0; i < n; i++) room->maxima[i] = -INFINITY;
    for (ptrdiff_t q = 0; q < kept; q++) {
        room->values[q] = w->largest ? -(T)INFINITY : (T)INFINITY;
        room->indices[q] = -1;
    }
}

static void FN(deliver)(const job *w, const FN(room) * room, int64_t at, int n) {
    const ptrdiff_t out = (ptrdiff_t)n * w->n_out, kept = out * w->best;
    if (w->kind == REDUCE_ENTRIES) return; /* every tile has written its own */
    if (w->kind == REDUCE_BEST) {
        for (ptrdiff_t q = 0; q < kept; q++) {
            w->values[at * w->n_out * w->best + q] = (double)room->values[q];
            w->indices[at * w->n_out * w->best + q] = room->indices[q];
        }
        return;
    }
    for (ptrdiff_t q = 0; q < out; q++) {
        /* a sum that is inf or nan has nothing that could be given back */
        const double lost = room->lost[q];
        w->sums[at * w->n_out + q] = room->sums[q] + (isfinite(lost) ? lost : 0.0);
    }
    if (w->kind == REDUCE_EXP)
        for (int i = 0; i < n; i++) w->maxima[at + i] = room->maxima[i];
}

/* Rows task[0] .. task[1]-1 of one batch element against the intervals task[2] .. task[3]-1. */
static void FN(do_task)(const job *w, int64_t item, void *scratch) {
    const int64_t batch = item / w->n_tasks, *task = w->tasks + 4 * (item % w->n_tasks), tiles = (w->N + TILE_WIDTH - 1) / TILE_WIDTH;
    const int n = (int)(task[1] - task[0]);
    int close = 0;
    FN(room) room;
    FN(furnish)(w, scratch, &room);
    FN(load_rows)(w, &room, batch, task[0], n);
    FN(clear)(w, &room, n);
    const T *packed = (const T *)w->packed + batch * tiles * w->col.n_exports * TILE_WIDTH;
    FN(context) s = {.tile = room.tile, .params = (const T *)w->params + batch * w->n_params, .row_stride = w->row.n_exports,
                     .rows_per_tile = w->rows_per_tile, .work = w, .close = &close};
    for (int64_t q = task[2]; q < task[3]; q++)
        for (int64_t from = w->intervals[2 * q], to = w->intervals[2 * q + 1]; from < to;) {
            const int64_t tile = from / TILE_WIDTH, end = (tile + 1) * TILE_WIDTH < to ? (tile + 1) * TILE_WIDTH : to;
            s.col = packed + tile * w->col.n_exports * TILE_WIDTH + from % TILE_WIDTH;
            s.column = from;
            s.n = (int)(end - from);
            for (int r = 0; r < n; r += w->rows_per_tile) {
                s.rows = n - r < w->rows_per_tile ? n - r : w->rows_per_tile;
                s.row = room.rows + (ptrdiff_t)r * w->row.n_exports;
                s.sums = room.sums + (ptrdiff_t)r * w->n_out;
                s.lost = room.lost + (ptrdiff_t)r * w->n_out;
                s.maxima = room.maxima + r;
                s.values = room.values + (ptrdiff_t)r * w->n_out * w->best;
                s.indices = room.indices + (ptrdiff_t)r * w->n_out * w->best;
                if (w->kind == REDUCE_ENTRIES)
                    s.entries = (T *)w->entries + ((batch * w->M + task[0] + r) * w->N + from) * w->n_out;
                FN(run)(&s, w->pair.code, 0, w->pair.length, 0);
            }
            from = end;
        }
    FN(deliver)(w, &room, batch * w->M + task[0], n);
}
