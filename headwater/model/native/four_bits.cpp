// Weights packed in four bits and made numbers again, with a plain C interface. See headwater/model/native/four_bits.py.

#include "vectors.h"

constexpr int GROUP = 64;  // weights with a scale of their own

struct Packed {
    uint8_t* codes;      // two weights a byte, the first in the upper four bits
    const bf16* scales;  // one a group
    void* weights;       // [rows, groups * GROUP], dense
    int64_t rows, groups, codes_step, scales_step;  // steps from row to row, in numbers
    const float* levels;  // 16; to pack, the 15 bounds between them
    int32_t threads;
};

// A processor without AVX-512 is quicker with PyTorch's table of pairs: nothing is unpacked here for it.
#if defined(__AVX512BW__)
// Both weights of a byte fall into one lane of 32 bits: one permutation looks up 32 of them.
static INLINE void unpack(bf16* out, const uint8_t* codes, const float* levels, float scale) {
    bf16 table[16];
    put(table, load(levels) * splat(scale));
    const __m512i numbers = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)table));
    const __m512i four = _mm512_set1_epi32(0x000f000f);
    for (int at = 0; at < GROUP; at += 32) {
        const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(codes + at / 2)));
        const __m512i places = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
        _mm512_storeu_si512(out + at, _mm512_permutexvar_epi16(_mm512_and_si512(places, four), numbers));
    }
}

static INLINE void unpack(float* out, const uint8_t* codes, const float* levels, float scale) {
    const Vec numbers = load(levels) * splat(scale);
    const __m512i four = _mm512_set1_epi64(0x0000000f0000000f);
    for (int at = 0; at < GROUP; at += 16) {
        const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i*)(codes + at / 2)));
        const __m512i places = _mm512_or_si512(_mm512_srli_epi64(bytes, 4), _mm512_slli_epi64(bytes, 32));
        store(out + at, (Vec)_mm512_permutexvar_ps(_mm512_and_si512(places, four), (__m512)numbers));
    }
}
#endif

// A code is the number of bounds below the weight over its scale.
static INLINE void pack(uint8_t* codes, const float* weights, const float* bounds, float scale) {
    int32_t found[GROUP];
    for (int at = 0; at < GROUP; at += LANES) {
        const Vec x = load(weights + at) / splat(scale);
        Ints count{};
        for (int bound = 0; bound < 15; bound++) count -= x > splat(bounds[bound]);
        memcpy(found + at, &count, sizeof count);
    }
    for (int at = 0; at < GROUP / 2; at++) codes[at] = (uint8_t)(found[2 * at] << 4 | found[2 * at + 1]);
}

template <class Stored, class Work>
static void each(const Packed& p, Work work) {
#pragma omp parallel for num_threads(p.threads) schedule(static)
    for (int64_t row = 0; row < p.rows; row++)
        for (int64_t group = 0; group < p.groups; group++)
            work((Stored*)p.weights + (row * p.groups + group) * GROUP,
                 p.codes + row * p.codes_step + group * GROUP / 2, widened(p.scales[row * p.scales_step + group]));
}

extern "C" {
void pack_float32(const Packed* p) {
    each<float>(*p, [&](const float* x, uint8_t* codes, float scale) { pack(codes, x, p->levels, scale); });
}
#if defined(__AVX512BW__)
void unpack_float32(const Packed* p) {
    each<float>(*p, [&](float* out, const uint8_t* codes, float scale) { unpack(out, codes, p->levels, scale); });
}
void unpack_bfloat16(const Packed* p) {
    each<bf16>(*p, [&](bf16* out, const uint8_t* codes, float scale) { unpack(out, codes, p->levels, scale); });
}
#endif
}
