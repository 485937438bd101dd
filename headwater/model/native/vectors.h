// Vectors of 32-bit lanes as the processor has them, and the numbers that fill them.
#pragma once

#include <cmath>
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

static INLINE bool any_above(Vec x, float bound) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(x, splat(bound), _CMP_GT_OQ);
#else
    return largest(x) > bound;
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

// Of COUNT vectors, side by side: what `total` gives for each, to the bit, with a third of its work.
template <int COUNT>
static INLINE Vec totals(Vec (&x)[COUNT]) {
    static_assert(COUNT <= LANES && (COUNT & (COUNT - 1)) == 0);
#if defined(__AVX512F__)
    // Halves are added, quarters of two such, and so on; where no second is left the first stands for it.
    constexpr int LEFT[] = {(COUNT + 1) / 2, (COUNT + 3) / 4, (COUNT + 7) / 8};
    for (int at = 0; at < LEFT[0]; at++) {
        const Vec a = x[2 * at], b = x[COUNT > 1 ? 2 * at + 1 : 0];
        x[at] = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
    }
    for (int at = 0; at < LEFT[1]; at++) {
        const Vec a = x[2 * at], b = x[LEFT[0] > 1 ? 2 * at + 1 : 0];
        x[at] = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
    }
    for (int at = 0; at < LEFT[2]; at++) {
        const Vec a = x[2 * at], b = x[LEFT[1] > 1 ? 2 * at + 1 : 0];
        x[at] = _mm512_shuffle_ps(a, b, 0x44) + _mm512_shuffle_ps(a, b, 0xee);
    }
    const Vec a = x[0], b = x[LEFT[2] > 1 ? 1 : 0];
    const Vec sums = _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xdd);
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), sums);
#else
    Vec sums{};
    for (int at = 0; at < COUNT; at++) sums[at] = total(x[at]);
    return sums;
#endif
}

constexpr float LOG2E = 1.44269504088896341f;

// c[0] + c[1] x + c[2] x^2 + ...
template <int COUNT>
static INLINE Vec polynomial(const float (&c)[COUNT], Vec x) {
    Vec y = splat(c[COUNT - 1]);
    for (int at = COUNT - 2; at >= 0; at--) y = y * x + splat(c[at]);
    return y;
}

// 2^x for x <= 0: a whole power times a polynomial, the one of least relative error over [0, 1]. -inf gives 0.
// EXACT: to 1e-7 of the value; otherwise to 3e-6, a thousandth of what bfloat16 keeps.
template <bool EXACT>
static INLINE Vec exp2(Vec x) {
    constexpr float fine[] = {1.f,           0.693146984f,  0.240229836f,   0.055483342f,
                              0.00967884096f, 0.0012439688f, 0.000217022555f};
    constexpr float coarse[] = {1.00000259f, 0.693003835f, 0.241442755f, 0.0520114619f, 0.013534168f};
#if defined(__AVX512DQ__)
    const Vec part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);  // x - floor(x)
    return _mm512_scalef_ps(EXACT ? polynomial(fine, part) : polynomial(coarse, part), x);
#else
    x = larger(splat(-200.f), x);  // in this order a NaN stays one
    const Vec near = (x + splat(12582912.f)) - splat(12582912.f);  // 1.5 * 2^23: sums are rounded to whole numbers
    const Vec whole = near > x ? near - splat(1.f) : near;
    const Vec y = EXACT ? polynomial(fine, x - whole) : polynomial(coarse, x - whole);
    const Ints power = (__builtin_convertvector(whole, Ints) + 127) << 23;
    return whole < splat(-126.f) ? Vec{} : y * (Vec)power;
#endif
}

// 1 / (1 + e^-x), by the exponential of what is not positive.
template <bool EXACT>
static INLINE Vec sigmoid(Vec x) {
    const Vec small = exp2<EXACT>((x < Vec{} ? x : -x) * splat(LOG2E));
    return (x < Vec{} ? small : splat(1.f)) / (splat(1.f) + small);
}

static INLINE float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

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

static INLINE void copy16(float* to, const float* from) { memcpy(to, from, 16 * sizeof *to); }
static INLINE void copy16(bf16* to, const bf16* from) { memcpy(to, from, 16 * sizeof *to); }
static INLINE void copy16(float* to, const bf16* from) {
    for (int at = 0; at < 16; at++) to[at] = widened(from[at]);
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

static INLINE Vec get(const int8_t* from) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
#else
    typedef int8_t Bytes __attribute__((vector_size(LANES)));
    Bytes x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, Vec);
#endif
}
static INLINE float value(const float* from) { return *from; }
static INLINE float value(const bf16* from) { return widened(*from); }
static INLINE void set(float* to, float x) { *to = x; }
static INLINE void set(bf16* to, float x) { *to = narrowed(x); }

// How many of so many numbers fill vectors; the rest come last, one by one.
static INLINE int64_t whole(int64_t count) { return count / LANES * LANES; }

// LANES x LANES cells with rows and columns exchanged. The rows of `from` are `apart` bytes from each other.
static INLINE void transpose(float* to, int64_t to_step, const void* from, int64_t apart) {
#if defined(__AVX512F__)
    // Rows i and i + 8 are interleaved into 2i and 2i + 1: the 8 bits of a cell's place turn by one, four times.
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    Vec x[16], y[16];
    for (int at = 0; at < 16; at++) x[at] = load((const char*)from + at * apart);
    for (int turn = 0; turn < 4; turn++) {
        for (int at = 0; at < 8; at++) {
            y[2 * at] = _mm512_permutex2var_ps(x[at], low, x[at + 8]);
            y[2 * at + 1] = _mm512_permutex2var_ps(x[at], high, x[at + 8]);
        }
        for (int at = 0; at < 16; at++) x[at] = y[at];
    }
    for (int at = 0; at < 16; at++) store(to + at * to_step, x[at]);
#else
    for (int row = 0; row < LANES; row++)
        for (int at = 0; at < LANES; at++) memcpy(to + row * to_step + at, (const char*)from + at * apart + 4 * row, 4);
#endif
}

// How matrix products take their factors. A cell is 32 bits that are multiplied and summed at once: GROUP numbers,
// neighbours along the dimension that is summed over.
struct Float32 {
    typedef float Number;
    static constexpr int GROUP = 1;
    static constexpr bool EXACT = true;
    static INLINE Vec dot(Vec sum, Vec a, Vec b) { return sum + a * b; }
    // Cells of what stands above each other in GROUP rows: one vector, or 16 stored numbers `apart` from each other.
    static INLINE void interleave(void* to, const Vec* rows) { store(to, rows[0]); }
    static INLINE void join(float* to, const float* rows, int64_t) { memcpy(to, rows, 16 * sizeof *to); }
};

#if defined(__AVX512BF16__)
struct BFloat16 {
    typedef bf16 Number;
    static constexpr int GROUP = 2;
    static constexpr bool EXACT = false;
    static INLINE Vec dot(Vec sum, Vec a, Vec b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
    static INLINE void interleave(void* to, const Vec* rows) {
        const __m512i order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2,
            17, 1, 16, 0);
        const __m512bh both = _mm512_cvtne2ps_pbh(rows[1], rows[0]);
        const __m512i cells = _mm512_permutexvar_epi16(order, (__m512i)both);
        memcpy(to, &cells, sizeof cells);
    }
    static INLINE void join(float* to, const bf16* rows, int64_t apart) {
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)rows));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(rows + apart)));
        const __m512i cells = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
        memcpy(to, &cells, sizeof cells);
    }
};
#endif
