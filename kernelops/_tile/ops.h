/* The value table: what each elementwise operation computes, one line each.
 *
 * Read by the tile engine (tile.h) for every instruction set and precision, and meant to be read as it stands by CUDA
 * code: a, b, c are the operands, T is the floating-point type, and v_exp, v_log, ... are primitives that the reader
 * defines. Comparisons are written so that a NaN operand gives NaN; only truth values and IfElse, whose NaN condition
 * takes c, do not.
 */
#ifndef KERNELOPS_OPS_H
#define KERNELOPS_OPS_H

#define KERNELOPS_UNARY(ROW)                                                                                           \
    ROW(Minus, -a)                                                                                                     \
    ROW(Inv, (T)1 / a)                                                                                                 \
    ROW(Square, a *a)                                                                                                  \
    ROW(Abs, v_abs(a))                                                                                                 \
    ROW(ReLU, a < (T)0 ? (T)0 : a)                                                                                     \
    ROW(Sign, a > (T)0 ? (T)1 : a < (T)0 ? (T)-1 : a)                                                                  \
    ROW(Step, a < (T)0 ? (T)0 : a >= (T)0 ? (T)1 : a)                                                                  \
    ROW(Floor, v_floor(a))                                                                                             \
    ROW(Copy, a)

/* one operand, functions on whole vectors where the reader has them; v_rsqrt(0) is 0 */
#define KERNELOPS_UNARY_VECTOR(ROW)                                                                                    \
    ROW(Exp, v_exp(a))                                                                                                 \
    ROW(Log, v_log(a))                                                                                                 \
    ROW(Sqrt, v_sqrt(a))                                                                                               \
    ROW(Rsqrt, v_rsqrt(a))                                                                                             \
    ROW(Sin, v_sin(a))                                                                                                 \
    ROW(Cos, v_cos(a))                                                                                                 \
    ROW(Tanh, v_tanh(a))

/* one operand and the integer parameter m: on whole vectors; with branches, which the compiler leaves scalar */
#define KERNELOPS_UNARY_PARAM_VECTOR(ROW) ROW(Pow, v_powi(a, m))
#define KERNELOPS_UNARY_PARAM_SLOW(ROW) ROW(SinXDivX, v_sinc(a, m))
#define KERNELOPS_UNARY_PARAM(ROW)                                                                                     \
    KERNELOPS_UNARY_PARAM_VECTOR(ROW)                                                                                  \
    KERNELOPS_UNARY_PARAM_SLOW(ROW)

#define KERNELOPS_ARITHMETIC(ROW)                                                                                      \
    ROW(Add, a + b)                                                                                                    \
    ROW(Subtract, a - b)                                                                                               \
    ROW(Mult, a *b)                                                                                                    \
    ROW(Divide, a / b)

#define KERNELOPS_COMPARISONS(ROW)                                                                                     \
    ROW(Equal, a == b ? (T)1 : (T)0)                                                                                   \
    ROW(NotEqual, a != b ? (T)1 : (T)0)                                                                                \
    ROW(LessThan, a < b ? (T)1 : (T)0)                                                                                 \
    ROW(LessOrEqual, a <= b ? (T)1 : (T)0)

/* two operands, functions on whole vectors where the reader has them */
#define KERNELOPS_BINARY_VECTOR(ROW)                                                                                   \
    ROW(Powf, v_pow(a, b))                                                                                             \
    ROW(Atan2, v_atan2(a, b))

#define KERNELOPS_BINARY(ROW)                                                                                          \
    KERNELOPS_ARITHMETIC(ROW)                                                                                          \
    KERNELOPS_BINARY_VECTOR(ROW)                                                                                       \
    KERNELOPS_COMPARISONS(ROW)

#define KERNELOPS_TERNARY(ROW)                                                                                         \
    ROW(Clamp, b != b ? b : c != c ? c : a < b ? b : a > c ? c : a)                                                    \
    ROW(IfElse, a >= (T)0 ? b : c)

/* Instructions that are not elementwise: loops over components, contractions, and what ends a program. */
#define KERNELOPS_CONTROL(ROW)                                                                                         \
    ROW(Loop)      /* repeat up to End, counter k = 0 .. aux0-1; aux1 is the place of End */                           \
    ROW(End)                                                                                                           \
    ROW(Zero)      /* out = 0 */                                                                                       \
    ROW(Accum)     /* out += a */                                                                                      \
    KERNELOPS_CONTRACTIONS(ROW)                                                                                        \
    ROW(WideSqDist) /* SqDist of long vectors; x - centre in the row at c, y - centre in the columns at aux1 */        \
    ROW(TensorDot) /* out = contraction of a and b; aux0 is its place in the table of contractions */                  \
    ROW(ExpScaled) /* out = exp(a*b), b a scalar */                                                                    \
    ROW(OutSum)    /* result[aux0 + k] += sum over columns of a */                                                     \
    ROW(OutDot)    /* result[aux0 + k] += sum over columns of a*b; for aux1 > 1 of a times each of aux1 columns' b */   \
    ROW(OutDiff)   /* result[aux0 + q] += sum over columns of a*(b_q - c_q), q < aux1, b of a row and c of columns */  \
    ROW(OutExp)    /* out = exp(a*b - running maximum of the row), b a scalar; earlier sums are rescaled */            \
    ROW(OutBest)   /* keep the best values of a for result aux0 + k, as many as the call asks for */                   \
    ROW(OutEntry)  /* keep a of every pair as its entry aux0 + k */

/* out = sum over aux0 components of ..., a of a row and b of columns */
#define KERNELOPS_CONTRACTIONS(ROW)                                                                                    \
    ROW(SqDist)         /* (a - b)^2 */                                                                                \
    ROW(Dot)            /* a*b */                                                                                      \
    ROW(L1Dist)         /* |a - b| */                                                                                  \
    ROW(WeightedSqDist) /* (a - b)^2 c, c of a row or a parameter */

#endif
