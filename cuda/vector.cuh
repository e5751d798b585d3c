/* Numbers as the kernels see them: those of 2 bytes, packs that one memory instruction moves, infinity, and where unrolling
 * ends. */
#ifndef KERNELOPS_VECTOR_CUH
#define KERNELOPS_VECTOR_CUH

#define KERNELOPS_MEMBER __device__ __forceinline__
#define KERNELOPS_DEVICE static KERNELOPS_MEMBER

namespace kernelops {

typedef long long i64;

/* A number of 2 bytes, of which data and results may consist; nothing is computed in it. */
struct half {
    unsigned short bits;
    half() = default;
    KERNELOPS_MEMBER explicit half(float a) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(a)); }
    KERNELOPS_MEMBER explicit half(double a) { asm("cvt.rn.f16.f64 %0, %1;" : "=h"(bits) : "d"(a)); }
    KERNELOPS_MEMBER explicit operator float() const {
        float a;
        asm("cvt.f32.f16 %0, %1;" : "=f"(a) : "h"(bits));
        return a;
    }
    KERNELOPS_MEMBER explicit operator double() const { return (double)(float)*this; }
};

/* N numbers that are read and written at once: up to 16 bytes. */
template <class T, int N> struct alignas(N * sizeof(T)) pack {
    T at[N];
};

/* How many of W numbers, which lie at a multiple of W * sizeof(T) bytes, go at once. */
template <class T> __host__ __device__ constexpr int pack_of(int w) {
    return w % (16 / (int)sizeof(T)) == 0 ? 16 / (int)sizeof(T) : w % 2 == 0 ? 2 : 1;
}

/* From shared memory into registers, and back. */
template <int W, class T> KERNELOPS_DEVICE void load_column(T *column, const T *shared) {
    constexpr int n = pack_of<T>(W);
#pragma unroll
    for (int k = 0; k < W; k += n) {
        const pack<T, n> some = *(const pack<T, n> *)(shared + k);
#pragma unroll
        for (int q = 0; q < n; q++) column[k + q] = some.at[q];
    }
}

template <int W, class T> KERNELOPS_DEVICE void store_column(T *shared, const T *column) {
    constexpr int n = pack_of<T>(W);
#pragma unroll
    for (int k = 0; k < W; k += n) {
        pack<T, n> some;
#pragma unroll
        for (int q = 0; q < n; q++) some.at[q] = column[k + q];
        *(pack<T, n> *)(shared + k) = some;
    }
}

/* A vector that is read where it lies: numbers of type A, taken as T, so many apart. */
template <class T, class A> struct view {
    const A *start;
    i64 step;
    KERNELOPS_MEMBER T operator[](i64 k) const { return (T)start[k * step]; }
    KERNELOPS_MEMBER view operator+(i64 k) const { return {start + k * step, step}; }
};

/* Loops over up to so many components become straight-line code, longer ones are unrolled eight times. */
__host__ __device__ constexpr int unrolled(int n) { return n <= 128 ? n : 8; }

template <class T> KERNELOPS_DEVICE T infinity() { return (T)__int_as_float(0x7f800000); }
template <class T> KERNELOPS_DEVICE bool is_finite(T a) { return a - a == (T)0; }
KERNELOPS_DEVICE bool is_negative(float a) { return __float_as_int(a) < 0; } /* -0, too */
KERNELOPS_DEVICE bool is_negative(double a) { return __double_as_longlong(a) < 0; }
KERNELOPS_DEVICE float v_abs(float a) { return fabsf(a); }
KERNELOPS_DEVICE double v_abs(double a) { return fabs(a); }

} // namespace kernelops

#endif
