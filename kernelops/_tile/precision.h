/* tile.h and task.h for float and double under the instruction set named by ISA, whose registers hold four rows of
 * BLOCK_BYTES with room to spare. */
#define JOIN_(name, type, isa) name##_##type##_##isa
#define JOIN(name, type, isa) JOIN_(name, type, isa)

#define T float
#define FN(name) JOIN(name, f32, ISA)
#define v_exp v_exp_f32
#define v_log v_log_f32
#define v_sqrt sqrtf
#define v_abs fabsf
#define v_sin sinf
#define v_cos cosf
#define v_pow powf
#define v_powi(a, m) ((float)v_powi_f64((double)(a), m))
#define v_sinc(a, m) ((float)v_sinc_f64((double)(a), m))
#include "tile.h"
#include "task.h"
#undef T
#undef FN
#undef v_exp
#undef v_log
#undef v_sqrt
#undef v_abs
#undef v_sin
#undef v_cos
#undef v_pow
#undef v_powi
#undef v_sinc

#define T double
#define FN(name) JOIN(name, f64, ISA)
#define v_exp v_exp_f64
#define v_log v_log_f64
#define v_sqrt sqrt
#define v_abs fabs
#define v_sin sin
#define v_cos cos
#define v_pow pow
#define v_powi v_powi_f64
#define v_sinc v_sinc_f64
#include "tile.h"
#include "task.h"
#undef T
#undef FN
#undef v_exp
#undef v_log
#undef v_sqrt
#undef v_abs
#undef v_sin
#undef v_cos
#undef v_pow
#undef v_powi
#undef v_sinc

static const machine JOIN(machine, of, ISA) = {
    {JOIN(do_params, f32, ISA), JOIN(do_params, f64, ISA)},
    {JOIN(do_pack, f32, ISA), JOIN(do_pack, f64, ISA)},
    {JOIN(do_task, f32, ISA), JOIN(do_task, f64, ISA)},
    {JOIN(scratch_bytes, f32, ISA), JOIN(scratch_bytes, f64, ISA)},
};
#undef JOIN
#undef JOIN_
#undef ISA
#undef BLOCK_BYTES
