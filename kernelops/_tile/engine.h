/* All of the engine for one precision and one instruction set, and the end of the names that say which. */
#include "vector.h"
#include "vexp.h"
#include "tile.h"
#include "elementwise.h"
#include "contract.h"
#include "outputs.h"
#include "interpret.h"
#include "task.h"
#include "mirror.h"

#undef T
#undef BITS
#undef UBITS
#undef IS_DOUBLE
#undef SUFFIX
#undef FN
#undef V
#undef VBITS
#undef LANES
#undef MM
#undef v_log
#undef v_abs
#undef v_sin
#undef v_cos
#undef v_pow
#undef v_powi
#undef v_sinc
