/* One call of the tile engine as a program: reads the call from standard input, writes what it leaves to standard
 * output. It is compiled for a processor that an emulator then plays; engine.py is the other end. */
#define _POSIX_C_SOURCE 200809L /* the flags ask for ISO C, and pool.h is there for threads */
#include <stdio.h>
#include <stdlib.h>

#include "_tile/isa.h"

/* count, then count items of the size */
static void *block(size_t size, int64_t *count) {
    int64_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1) exit(2);
    void *items = aligned_alloc(64, ((size_t)n * size + 64 + 63) / 64 * 64);
    if (!items || fread(items, size, (size_t)n, stdin) != (size_t)n) exit(2);
    if (count) *count = n;
    return items;
}

static stage read_stage(void) {
    int64_t code, loads, exports;
    stage s = {.code = block(sizeof(instruction), &code)};
    s.planes = *(int32_t *)block(sizeof(int32_t), NULL);
    s.loads = block(3 * sizeof(int32_t), &loads);
    s.exports = block(sizeof(int32_t), &exports);
    s.length = (int32_t)code;
    s.n_loads = (int32_t)loads;
    s.n_exports = (int32_t)exports;
    return s;
}

static variable read_variable(int64_t batch) {
    const int64_t *layout = block(sizeof(int64_t), NULL); /* rows, components, whether double */
    const ptrdiff_t size = layout[2] ? sizeof(double) : sizeof(float);
    const char *data = block(1, NULL);
    const char **start = calloc((size_t)batch + 1, sizeof *start);
    for (int64_t t = 0; t < batch; t++) start[t] = data + t * layout[0] * layout[1] * size;
    return (variable){.start = start, .row = layout[1] * size, .component = size, .is_double = (int32_t)layout[2]};
}

static void *room(int64_t count, size_t size) {
    const size_t bytes = ((size_t)count * size + 128 * size + 63) / 64 * 64;
    return memset(aligned_alloc(64, bytes), 0, bytes);
}

int main(void) {
    int64_t constants, tasks, variables, centred;
    const int64_t *head = block(sizeof(int64_t), NULL);
    const int float64 = (int)head[0];
    job w = {.kind = (int32_t)head[1], .n_out = (int32_t)head[2], .n_params = (int32_t)head[3], .batch = head[4],
             .M = head[5], .N = head[6], .best = (int32_t)head[7], .largest = (int32_t)head[8],
             .nan_first = (int32_t)head[9], .wide_sums = (int32_t)head[10], .compensated = (int32_t)head[11],
             .rows_per_tile = (int32_t)head[12], .mirrored = (int32_t)head[13]};
    w.param = read_stage();
    w.row = read_stage();
    w.col = read_stage();
    w.pair = read_stage();
    w.contractions = block(sizeof(int32_t), NULL);
    w.centred = block(5 * sizeof(int32_t), &centred);
    w.n_centred = (int32_t)centred;
    for (int64_t k = 0; k < centred; k++) w.n_centres += w.centred[5 * k + 4];
    w.constants = block(sizeof(double), &constants);
    w.n_constants = (int32_t)constants;
    w.tasks = block(4 * sizeof(int64_t), &tasks);
    w.n_tasks = tasks;
    w.intervals = block(2 * sizeof(int64_t), NULL);
    const int64_t *count = block(sizeof(int64_t), &variables);
    variable *all = calloc((size_t)count[0] + 1, sizeof *all);
    for (int64_t k = 0; k < count[0]; k++) all[k] = read_variable(w.batch);
    w.variables = all;

    const size_t size = float64 ? sizeof(double) : sizeof(float);
    const int64_t tiles = (w.N + TILE_WIDTH - 1) / TILE_WIDTH, out = w.batch * w.M * w.n_out;
    w.params = room(w.batch * w.n_params, size);
    w.packed = room(w.batch * tiles * w.col.n_exports * TILE_WIDTH, size);
    w.centres = room(w.batch * w.n_centres, size);
    if (w.mirrored) { /* two blocks in each strip */
        const int64_t count = (tiles + 1) / 2, window = 2 + tiles / 2 < tiles ? 2 + tiles / 2 : tiles;
        w.strips = (strips){.blocks = tiles, .count = count, .width = 2, .window = window, .to = 2};
    }
    w.sums = room(out, sizeof(double));
    w.maxima = room(w.batch * w.M, sizeof(double));
    w.values = room(out * w.best, sizeof(double));
    w.indices = room(out * w.best, sizeof(int64_t));

    int isa = ISA_COUNT - 1;
    while (!isa_usable(isa)) isa--;
    w.flush = (int32_t)head[14];
    const machine *m = isa_machine(isa);
    const size_t bytes = m->scratch_bytes[float64](&w);
    char *scratch = room((int64_t)bytes, 1);
    run_pieces(m->params[float64], &w, 0, w.batch, 1, scratch, bytes);
    if (w.col.n_exports) run_pieces(m->pack[float64], &w, 0, w.batch * tiles, 1, scratch, bytes);
    if (w.n_centred) {
        run_pieces(m->centre[float64], &w, 0, w.batch * w.n_centres, 1, scratch, bytes);
        run_pieces(m->shift[float64], &w, 0, w.batch * tiles, 1, scratch, bytes);
    }
    for (int64_t t = 0; t < w.batch && w.mirrored; t++) {
        w.sides = room(w.strips.count * w.strips.window * TILE_WIDTH * w.n_out, sizeof(double));
        run_pieces(m->strip[float64], &w, t * w.strips.count, (t + 1) * w.strips.count, 1, scratch, bytes);
        run_pieces(m->merge[float64], &w, t * tiles, (t + 1) * tiles, 1, scratch, bytes);
    }
    if (!w.mirrored) run_pieces(m->task[float64], &w, 0, w.batch * w.n_tasks, 1, scratch, bytes);

    fwrite(w.sums, sizeof(double), (size_t)out, stdout);
    fwrite(w.maxima, sizeof(double), (size_t)(w.batch * w.M), stdout);
    fwrite(w.values, sizeof(double), (size_t)(out * w.best), stdout);
    fwrite(w.indices, sizeof(int64_t), (size_t)(out * w.best), stdout);
    return 0;
}
