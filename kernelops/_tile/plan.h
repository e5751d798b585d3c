/* What a tile program and one call look like in memory: shared by every instruction set and precision. */
#ifndef KERNELOPS_PLAN_H
#define KERNELOPS_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "ops.h"

enum { TILE_WIDTH = 256, ROWS_PER_TILE_MAX = 16, ROWS_PER_TASK_MAX = 64, CODE_WIDTH = 15, SLACK = 64 };

#define ONES_16 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1
#define ONES_64 ONES_16, ONES_16, ONES_16, ONES_16

/* Where an operand lives. A scalar per row or per call is read once; TILE and COL give one value per column. */
enum { IN_NONE = 0, IN_TILE = 1, IN_ROW = 2, IN_COL = 3, IN_PARAM = 4 };

#define NAME_ONLY(name, ...) OP_##name,
enum {
    KERNELOPS_UNARY(NAME_ONLY) KERNELOPS_UNARY_VECTOR(NAME_ONLY) KERNELOPS_UNARY_PARAM(NAME_ONLY)
    KERNELOPS_BINARY(NAME_ONLY) KERNELOPS_TERNARY(NAME_ONLY) KERNELOPS_CONTROL(NAME_ONLY) OP_COUNT
};
#undef NAME_ONLY

#define NAME_TEXT(name, ...) #name,
static const char *const OP_NAMES[] = {
    KERNELOPS_UNARY(NAME_TEXT) KERNELOPS_UNARY_VECTOR(NAME_TEXT) KERNELOPS_UNARY_PARAM(NAME_TEXT)
    KERNELOPS_BINARY(NAME_TEXT) KERNELOPS_TERNARY(NAME_TEXT) KERNELOPS_CONTROL(NAME_TEXT) NULL
};
#undef NAME_TEXT

/* One operand: component base + k*stride of its place, k being the counter of the surrounding loop. */
typedef struct {
    int32_t place, base, stride;
} operand;

/* One instruction: CODE_WIDTH numbers. */
typedef struct {
    int32_t op, aux0, aux1;
    operand out, a, b, c;
} instruction;

/* A straight-line program and the tile planes that it needs. */
typedef struct {
    const instruction *code;
    int32_t length, planes;
    const int32_t *loads; /* (variable, components, first plane) each: raw data copied in before the program runs */
    int32_t n_loads;
    const int32_t *exports; /* planes that are copied out when it has run; -1: a place that is filled later */
    int32_t n_exports;
} stage;

/* A variable: where batch element t starts, and the strides in bytes of its rows and components. */
typedef struct {
    const char *const *start;
    ptrdiff_t row, component;
    int32_t is_double;
} variable;

enum { REDUCE_SUM = 0, REDUCE_EXP = 1, REDUCE_BEST = 2, REDUCE_ENTRIES = 3 };

/* How the points of a mirrored sum are shared out (mirror.h), and which blocks of each strip run now. */
typedef struct {
    int64_t blocks, count, width, window, from, to;
    const unsigned char *held; /* (blocks, blocks): which meet, or NULL for all */
} strips;

/* One call: the program, the data, the work and the results. */
typedef struct {
    stage param, row, col, pair;
    const int32_t *contractions; /* table of TensorDot */
    /* vectors of rows and columns that are shifted to the columns' mean: (row, column, shifted row, shifted column, length)
     * each; n_centres is the sum of the lengths, centres (batch, n_centres) of the working type */
    const int32_t *centred;
    int32_t n_centred, n_centres;
    void *centres;
    const double *constants;
    int32_t n_constants, n_params; /* params: constants, raw parameters, exports of the parameter stage */

    const variable *variables;
    int64_t batch, M, N;

    const int64_t *tasks; /* (first row, last row, first interval, last interval) each */
    const int64_t *intervals;
    int64_t n_tasks;

    int32_t kind, n_out;
    int32_t best, largest, nan_first; /* how many are kept; they are the largest; a NaN goes before all */
    int32_t wide_sums, compensated;     /* sums in double inside a tile too; compensated sums across tiles */
    int32_t rows_per_tile;
    int32_t flush;    /* results too small for a normal number become 0 */
    int32_t mirrored; /* each pair is evaluated once, for the rows of both its points */

    double *sums;     /* (batch, M, n_out) */
    double *maxima;   /* (batch, M) */
    double *values;   /* (batch, M, n_out, best) */
    int64_t *indices; /* (batch, M, n_out, best) */
    void *entries;    /* (batch, M, N, n_out) of the working type */

    void *params; /* scratch: (batch, n_params) and (batch, tiles, col exports, TILE_WIDTH) of the working type */
    void *packed;
    strips strips;  /* where mirrored */
    double *sides; /* (strips, window, n_out, TILE_WIDTH): what each strip has for the rows of its window */
} job;

#endif
