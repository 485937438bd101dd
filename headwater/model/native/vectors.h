// Vectors of 32-bit lanes as the processor has them, and the numbers that fill them.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t bf16;

static INLINE Vec load(const void* from) {
    Vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

static INLINE void store(void* to, Vec x) { memcpy(to, &x, sizeof x); }

static INLINE Vec splat(float x) { return x - Vec{}; }

static INLINE Ints splat(int32_t x) { return x - Ints{}; }

// The 32 bits at `from` in every lane, whatever they mean.
static INLINE Vec repeated(const void* from) {
    int32_t bits;
    memcpy(&bits, from, 4);
    return (Vec)splat(bits);
}

// 0, 1, 2, ... in the lanes.
static INLINE Ints iota() {
    Ints x{};
    for (int lane = 0; lane < LANES; lane++) x[lane] = lane;
    return x;
}

static INLINE Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

static INLINE float largest(Vec x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(x);
#else
    float found = x[0];
    for (int lane = 1; lane < LANES; lane++) found = x[lane] > found ? x[lane] : found;
    return found;
#endif
}

static INLINE float total(Vec x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(x);
#else
    float sum = x[0];
    for (int lane = 1; lane < LANES; lane++) sum += x[lane];
    return sum;
#endif
}

// 2^x for x <= 0: a whole power times a polynomial, the least relative error on [-1/2, 1/2]. -inf gives 0.
// EXACT: to 1e-7 of the value; otherwise to 3e-6, a thousandth of what bfloat16 keeps.
template <bool EXACT>
static INLINE Vec exp2(Vec x) {
    x = larger(splat(-200.f), x);  // in this order a NaN stays one
    const Vec whole = (x + splat(12582912.f)) - splat(12582912.f);  // 1.5 * 2^23: sums are rounded to whole numbers
    const Vec part = x - whole;
    Vec y;
    if (EXACT) {
        y = splat(0.00015345812f) * part + splat(0.00133999314f);
        y = y * part + splat(0.00961848896f);
        y = y * part + splat(0.0555032878f);
        y = y * part + splat(0.240226469f);
        y = y * part + splat(0.693147206f);
        y = y * part + splat(1.f);
    } else {
        y = splat(0.00957010195f) * part + splat(0.0559178616f);
        y = y * part + splat(0.240247448f);
        y = y * part + splat(0.693121815f);
        y = y * part + splat(0.999999261f);
    }
#if defined(__AVX512F__)
    return _mm512_scalef_ps(y, whole);
#else
    const Ints power = (__builtin_convertvector(whole, Ints) + 127) << 23;
    return whole < splat(-126.f) ? Vec{} : y * (Vec)power;
#endif
}

static INLINE float widened(bf16 x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

static INLINE bf16 narrowed(float x) {  // to the nearest, ties to even; a NaN stays one
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bf16)(bits >> 16 | 64);
    return (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static INLINE Vec get(const float* from) { return load(from); }

static INLINE Vec get(const bf16* from) {
    typedef bf16 Halves __attribute__((vector_size(2 * LANES)));
    Halves x;
    memcpy(&x, from, sizeof x);
    return (Vec)(__builtin_convertvector(x, Ints) << 16);
}

static INLINE void put(float* to, Vec x) { store(to, x); }

static INLINE void put(bf16* to, Vec x) {
#if defined(__AVX512BF16__)
    const __m256bh y = _mm512_cvtneps_pbh(x);
    memcpy(to, &y, sizeof y);
#else
    for (int lane = 0; lane < LANES; lane++) to[lane] = narrowed(x[lane]);
#endif
}

// How matrix products take their factors. A cell is 32 bits that are multiplied and summed at once: GROUP numbers,
// neighbours along the dimension that is summed over.
struct Float32 {
    typedef float Number;
    static constexpr int GROUP = 1;
    static constexpr bool EXACT = true;
    static INLINE Vec dot(Vec sum, Vec a, Vec b) { return sum + a * b; }
    static INLINE void interleave(void* to, const Vec* rows) { store(to, rows[0]); }
};

#if defined(__AVX512BF16__)
struct BFloat16 {
    typedef bf16 Number;
    static constexpr int GROUP = 2;
    static constexpr bool EXACT = false;
    static INLINE Vec dot(Vec sum, Vec a, Vec b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
    // Cells of what stands above each other in two rows.
    static INLINE void interleave(void* to, const Vec* rows) {
        const __m512i order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2,
            17, 1, 16, 0);
        const __m512bh both = _mm512_cvtne2ps_pbh(rows[1], rows[0]);
        const __m512i cells = _mm512_permutexvar_epi16(order, (__m512i)both);
        memcpy(to, &cells, sizeof cells);
    }
};
#endif
