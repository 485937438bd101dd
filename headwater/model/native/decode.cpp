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
        std::unique_ptr<float[]> own(new float[scratch_floats(m.columns) + p.count * ROWS]);
        const int64_t size = part_of(m);
        float* y = own.get() + scratch_floats(m.columns);
#pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < m.rows; begin += size) {
            const int64_t end = begin + size < m.rows ? begin + size : m.rows;
            rows_of<Cell>(m, begin, end, x, y, ROWS, own.get());
            for (int64_t v = 0; v < p.count; v++)
                for (int64_t r = begin; r < end; r++) set((Stored*)p.y + v * m.rows + r, y[v * ROWS + r - begin]);
        }
    }
}

extern "C" {
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
#if defined(__AVX512BF16__)
    if (s->stored == BFLOAT16) return run<BFloat16, bf16>(*s);
#else
    if (s->stored == BFLOAT16) return run<Float32, bf16>(*s);
#endif
    run<Float32, float>(*s);
}
}
