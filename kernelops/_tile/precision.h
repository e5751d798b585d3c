/* The engine for float and double under the instruction set named by ISA, with registers of REGISTER_BYTES. */
#define JOIN_(name, type, isa) name##_##type##_##isa
#define JOIN(name, type, isa) JOIN_(name, type, isa)

#define T double
#define BITS int64_t
#define UBITS uint64_t
#define IS_DOUBLE 1
#define SUFFIX pd
#define FN(name) JOIN(name, f64, ISA)
#define LIBM(name) name
#define v_abs fabs
#define v_floor floor
#define v_sinc v_sinc_f64
#include "engine.h"

#define T float
#define BITS int32_t
#define UBITS uint32_t
#define IS_DOUBLE 0
#define SUFFIX ps
#define FN(name) JOIN(name, f32, ISA)
#define LIBM(name) name##f
#define v_abs fabsf
#define v_floor floorf
#define v_sinc(a, m) ((float)v_sinc_f64((double)(a), m))
#include "engine.h"

static const machine JOIN(machine, of, ISA) = {
    {JOIN(do_params, f32, ISA), JOIN(do_params, f64, ISA)},
    {JOIN(do_pack, f32, ISA), JOIN(do_pack, f64, ISA)},
    {JOIN(do_task, f32, ISA), JOIN(do_task, f64, ISA)},
    {JOIN(do_centre, f32, ISA), JOIN(do_centre, f64, ISA)},
    {JOIN(do_shift, f32, ISA), JOIN(do_shift, f64, ISA)},
    {JOIN(do_strip, f32, ISA), JOIN(do_strip, f64, ISA)},
    {JOIN(do_merge, f32, ISA), JOIN(do_merge, f64, ISA)},
    {JOIN(scratch_bytes, f32, ISA), JOIN(scratch_bytes, f64, ISA)},
};
#undef JOIN
#undef JOIN_
#undef ISA
#undef REGISTER_BYTES
