/* The interpreter: one instruction after another over a whole tile. */

/* Rows and columns that one call of an elementwise loop may take: where its vectors are all tile planes, whose rows lie
 * one after another, all rows go at once. */
static int FN(at_once)(const FN(context) * s, const instruction *p, int *n) {
    const int elementwise = p->op < OP_Loop || p->op == OP_Accum || p->op == OP_ExpScaled;
    const int scalars = (p->op >= OP_Add && p->op <= OP_LessOrEqual) || p->op == OP_ExpScaled;
    const operand args[3] = {p->a, p->b, p->c};
    int fits = elementwise && s->n >= TILE_WIDTH / 2, planes = 0;
    for (int q = 0; q < 3; q++) {
        planes += args[q].place == IN_TILE;
        fits &= args[q].place == IN_TILE || args[q].place == IN_NONE || (scalars && args[q].place == IN_PARAM);
    }
    *n = fits && planes ? (s->rows - 1) * TILE_WIDTH + s->n : s->n;
    return fits && planes ? 1 : s->rows;
}

static void FN(binary)(const FN(context) * s, const instruction *p, int k) {
    T spread[TILE_WIDTH];
    const int sa = FN(is_scalar)(p->a), sb = FN(is_scalar)(p->b);
    int n, rows = FN(at_once)(s, p, &n);
    for (int r = 0; r < rows; r++) {
        T *out = FN(plane)(s, p->out, k, r);
        switch (p->op) {
#define BINARY(name, value)                                                                                            \
    case OP_##name:                                                                                                    \
        if (sb)                                                                                                        \
            FN(name##_vs)(out, FN(any)(s, p->a, k, r, spread), FN(scalar)(s, p->b, k, r), n);                          \
        else if (sa)                                                                                                   \
            FN(name##_sv)(out, FN(scalar)(s, p->a, k, r), FN(columns)(s, p->b, k, r), n);                              \
        else                                                                                                           \
            FN(name##_vv)(out, FN(columns)(s, p->a, k, r), FN(columns)(s, p->b, k, r), n);                             \
        break;
            KERNELOPS_BINARY(BINARY)
#undef BINARY
        }
    }
}

static void FN(step)(const FN(context) * s, const instruction *p, int k) {
    T spread[3][TILE_WIDTH];
    int n, rows = FN(at_once)(s, p, &n);
    for (int r = 0; r < rows; r++) {
        T *out = p->out.place == IN_TILE ? FN(plane)(s, p->out, k, r) : NULL;
        switch (p->op) {
#define UNARY(name, value)                                                                                             \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), n);                                                           \
        break;
            KERNELOPS_UNARY(UNARY)
            KERNELOPS_UNARY_VECTOR(UNARY)
#undef UNARY
#define UNARY(name, value)                                                                                             \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), n, p->aux0);                                                  \
        break;
            KERNELOPS_UNARY_PARAM(UNARY)
#undef UNARY
#define TERNARY(name, value)                                                                                           \
    case OP_##name:                                                                                                    \
        FN(name)(out, FN(any)(s, p->a, k, r, spread[0]), FN(any)(s, p->b, k, r, spread[1]),                            \
                 FN(any)(s, p->c, k, r, spread[2]), n);                                                                \
        break;
            KERNELOPS_TERNARY(TERNARY)
#undef TERNARY
        case OP_Zero:
            for (int i = 0; i < n; i++) out[i] = 0;
            break;
        case OP_Accum: FN(Add_vv)(out, out, FN(any)(s, p->a, k, r, spread[0]), n); break;
        case OP_TensorDot: FN(tensordot)(s, p, r); break;
        case OP_ExpScaled: FN(ExpScaled)(out, FN(any)(s, p->a, k, r, spread[0]), FN(scalar)(s, p->b, k, r), n); break;
        case OP_OutExp:
            FN(shifted_exp)(s, out, FN(any)(s, p->a, k, r, spread[0]), p->b.place ? FN(scalar)(s, p->b, k, r) : 1, r);
            break;
        case OP_OutBest: FN(keep_best)(s, FN(any)(s, p->a, k, r, spread[0]), r, p->aux0 + k); break;
        case OP_OutEntry: FN(keep_entries)(s, FN(any)(s, p->a, k, r, spread[0]), r, p->aux0 + k); break;
        }
    }
}

static void FN(run)(const FN(context) * s, const instruction *code, int from, int to, int k) {
    for (int at = from; at < to; at++) {
        const instruction *p = code + at;
        if (p->op == OP_Loop) {
            for (int q = 0; q < p->aux0; q++) FN(run)(s, code, at + 1, p->aux1, q);
            at = p->aux1;
        } else if (p->op >= OP_Add && p->op <= OP_LessOrEqual)
            FN(binary)(s, p, k);
        else if (p->op == OP_SqDist && FN(out_gaussian)(s, p))
            at += 2;
        else if (p->op >= OP_SqDist && p->op <= OP_WeightedSqDist)
            FN(contract)(s, p);
        else if (p->op == OP_WideSqDist)
            FN(wide_distances)(s, p);
        else if (p->op >= OP_OutSum && p->op <= OP_OutDiff)
            FN(out_sums)(s, p, k);
        else
            FN(step)(s, p, k);
    }
}
