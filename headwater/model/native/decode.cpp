// Decoding: products of matrices with few rows, and whole steps of a decoder, with a plain C interface.
// See headwater/model/native/few_rows.py and step.py.

#include <memory>

#include "pass.h"

struct Product {
    Matrix matrix;
    const void* x;  // [count, columns]
    void* y;        // [count, rows], as x
    int64_t count;
    int32_t stored, threads;  // stored: the form of x and y, FLOAT32 or BFLOAT16
};

template <class Cell, class Stored>
static void product(const Product& p) {
    const Matrix& m = p.matrix;
    std::unique_ptr<float[]> memory(new float[Input::floats(p.count, m.columns) + padded(m.columns)]);
    const Input x = Input::in(memory.get(), p.count, m.columns);
    float* row = memory.get() + Input::floats(p.count, m.columns);
    for (int64_t v = 0; v < p.count; v++) {
        for (int64_t c = 0; c < padded(m.columns); c++)
            row[c] = c < m.columns ? value((const Stored*)p.x + v * m.columns + c) : 0.f;
        prepare<Cell>(x, v, row, m);
    }
#pragma omp parallel num_threads(p.threads)
    {
        std::unique_ptr<float[]> y(new float[p.count * ROWS]);
        const int64_t size = part_of(m);
#pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < m.rows; begin += size) {
            const int64_t end = begin + size < m.rows ? begin + size : m.rows;
            rows_of<Cell>(m, begin, end, x, y.get(), ROWS);
            for (int64_t v = 0; v < p.count; v++)
                for (int64_t r = begin; r < end; r++) set((Stored*)p.y + v * m.rows + r, y[v * ROWS + r - begin]);
        }
    }
}

#if defined(__AVX512BW__)
// FINEST weights of one group from their codes, by a table of what its sixteen codes mean.
static INLINE void unpack(bf16* out, const uint8_t* codes, Vec levels) {
    bf16 table[LANES];
    put(table, levels);
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)codes));
    const __m512i places = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
    const __m512i numbers = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)table));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(_mm512_and_si512(places, _mm512_set1_epi32(0x000f000f)), numbers));
}

static INLINE void unpack(float* out, const uint8_t* codes, Vec levels) {
    for (int half = 0; half < 2; half++) {
        const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i*)(codes + 8 * half)));
        const __m512i places = _mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28));
        store(out + LANES * half, (Vec)_mm512_permutexvar_ps(places, (__m512)levels));
    }
}

template <class Stored>
static void whole_of(const Matrix& m, Stored* out, int32_t threads) {
    const int64_t groups = m.columns / m.group;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < m.rows * groups; at++) {
        const Vec scale = splat(half(((const uint16_t*)m.scale)[at])), zero = splat((float)m.zero[at]);
        const Vec levels = scale * (__builtin_convertvector(iota(), Vec) - zero);
        for (int64_t c = at * m.group; c < (at + 1) * m.group; c += FINEST)
            unpack(out + c, (const uint8_t*)m.weights + c / 2, levels);
    }
}
#endif

extern "C" {
#if defined(__AVX512BW__)
// y [rows, columns] becomes an INT4 matrix's weights; without AVX-512 PyTorch does that.
void unpack_steps(const Product* p) {
    if (p->stored == BFLOAT16) whole_of(p->matrix, (bf16*)p->y, p->threads);
    else whole_of(p->matrix, (float*)p->y, p->threads);
}
#endif

void few_rows(const Product* p) {
#if defined(__AVX512BF16__)
    if (p->stored == BFLOAT16) return product<BFloat16, bf16>(*p);
#else
    if (p->stored == BFLOAT16) return product<Float32, bf16>(*p);
#endif
    product<Float32, float>(*p);
}

// Floats that a step with so many rows and threads works in.
int64_t step_workspace(const Step* s) {
    Memory shared{nullptr}, own{nullptr};
    Shared(*s, shared);
    Own(*s, own);
    return shared.count + s->threads * own.count;
}

void step(const Step* s) {
    const bool bytes = s->kept == INT8;
#if defined(__AVX512BF16__)
    using Cell = BFloat16;
#else
    using Cell = Float32;
#endif
    if (s->stored == BFLOAT16) return bytes ? run<Cell, bf16, int8_t>(*s) : run<Cell, bf16, bf16>(*s);
    return bytes ? run<Float32, float, int8_t>(*s) : run<Float32, float, float>(*s);
}
}
