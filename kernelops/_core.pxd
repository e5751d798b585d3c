"""What _core.pyx sees of the tile engine: the parts of ``_tile/plan.h`` and ``_tile/isa.h`` that it fills and calls."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "_tile/isa.h" nogil:
    enum:
        TILE_WIDTH, ROWS_PER_TILE_MAX, ROWS_PER_TASK_MAX, CODE_WIDTH, SLACK, ISA_COUNT
        IN_NONE, IN_TILE, IN_ROW, IN_COL, IN_PARAM
        OP_COUNT, OP_Sin, OP_SinXDivX, OP_Add, OP_Powf, OP_LessOrEqual, OP_IfElse
        OP_Loop, OP_End, OP_Zero, OP_SqDist, OP_WeightedSqDist, OP_WideSqDist, OP_TensorDot, OP_ExpScaled
        OP_OutSum, OP_OutDot, OP_OutDiff, OP_OutExp, OP_OutBest, OP_OutEntry
        REDUCE_BEST, REDUCE_EXP, REDUCE_ENTRIES
    ctypedef struct operand:
        int32_t place, base, stride
    ctypedef struct instruction:
        int32_t op, aux0, aux1
        operand out, a, b, c
    ctypedef struct stage:
        const instruction *code
        int32_t length, planes
        const int32_t *loads
        int32_t n_loads
        const int32_t *exports
        int32_t n_exports
    ctypedef struct variable:
        const char **start
        Py_ssize_t row, component
        int32_t is_double
    ctypedef struct strips:
        int64_t blocks, count, width, window, first "from", last "to"
        const unsigned char *held
    ctypedef struct job:
        stage param, row, col, pair
        const int32_t *contractions
        const int32_t *centred
        int32_t n_centred, n_centres
        void *centres
        const double *constants
        int32_t n_constants, n_params
        const variable *variables
        int64_t batch, M, N
        const int64_t *tasks
        const int64_t *intervals
        int64_t n_tasks
        int32_t kind, n_out, best, largest, nan_first, wide_sums, compensated, rows_per_tile, flush, mirrored
        double *sums
        double *maxima
        double *values
        int64_t *indices
        void *entries
        void *params
        void *packed
        strips strips
        double *sides
    ctypedef void (*piece)(const job *, int64_t, void *) noexcept
    ctypedef struct machine:
        piece params[2]
        piece pack[2]
        piece task[2]
        piece centre[2]
        piece shift[2]
        piece strip[2]
        piece merge[2]
        size_t (*scratch_bytes[2])(const job *)
    const char *const *OP_NAMES
    const char *const *ISA_NAMES
    int isa_usable(int)
    int pool_open()
    const machine *isa_machine(int)
    void run_pieces(piece, const job *, int64_t, int64_t, int, char *, int64_t)
