// RMSNorm and SwiGLU with their gradients, each in one pass over its rows, with a plain C interface.
// See headwater/model/native/fused.py.

#include <cmath>
#include <omp.h>

#include "vectors.h"

struct Rows {
    const void *x, *gradient;  // [rows, columns]; SwiGLU's x is [rows, 2 columns], gate and up side by side
    void* out;                 // the result, or the gradient of x
    int64_t rows, columns;
    const void* gain;   // [columns]
    float* inverses;    // [rows], 1 / sqrt(mean(x^2) + eps)
    float* gain_sums;   // [threads, columns], zeros, to which each thread adds the gain's gradient
    float eps;
    int32_t threads;
};

template <class Stored>
static void normalised(const Rows& r, int64_t row, int) {
    const Stored *x = (const Stored*)r.x + row * r.columns, *gain = (const Stored*)r.gain;
    Stored* out = (Stored*)r.out + row * r.columns;
    Vec squares{};
    for (int64_t c = 0; c < whole(r.columns); c += LANES) squares += get(x + c) * get(x + c);
    float sum = total(squares);
    for (int64_t c = whole(r.columns); c < r.columns; c++) sum += value(x + c) * value(x + c);
    const float inverse = r.inverses[row] = 1 / std::sqrt(sum / r.columns + r.eps);
    for (int64_t c = 0; c < whole(r.columns); c += LANES) put(out + c, get(x + c) * splat(inverse) * get(gain + c));
    for (int64_t c = whole(r.columns); c < r.columns; c++) set(out + c, value(x + c) * inverse * value(gain + c));
}

// With n = x i and i the inverse: dx = i (g dy - n mean(g dy n)), dg = sum over rows of dy n.
template <class Stored>
static void normalised_back(const Rows& r, int64_t row, int thread) {
    const Stored *x = (const Stored*)r.x + row * r.columns, *gain = (const Stored*)r.gain;
    const Stored* dy = (const Stored*)r.gradient + row * r.columns;
    Stored* out = (Stored*)r.out + row * r.columns;
    float* sums = r.gain_sums + thread * r.columns;
    const float inverse = r.inverses[row];
    Vec along{};
    for (int64_t c = 0; c < whole(r.columns); c += LANES) {
        const Vec part = get(dy + c) * get(x + c) * splat(inverse);
        store(sums + c, load(sums + c) + part);
        along += part * get(gain + c);
    }
    float sum = total(along);
    for (int64_t c = whole(r.columns); c < r.columns; c++) {
        const float part = value(dy + c) * value(x + c) * inverse;
        sums[c] += part;
        sum += part * value(gain + c);
    }
    const float shrink = sum / r.columns * inverse;
    for (int64_t c = 0; c < whole(r.columns); c += LANES)
        put(out + c, splat(inverse) * (get(gain + c) * get(dy + c) - splat(shrink) * get(x + c)));
    for (int64_t c = whole(r.columns); c < r.columns; c++)
        set(out + c, inverse * (value(gain + c) * value(dy + c) - shrink * value(x + c)));
}

template <class Stored>
static void gated(const Rows& r, int64_t row, int) {
    const Stored *gate = (const Stored*)r.x + 2 * row * r.columns, *up = gate + r.columns;
    Stored* out = (Stored*)r.out + row * r.columns;
    for (int64_t c = 0; c < whole(r.columns); c += LANES) {
        const Vec g = get(gate + c);
        put(out + c, g * sigmoid<sizeof(Stored) == 4>(g) * get(up + c));
    }
    for (int64_t c = whole(r.columns); c < r.columns; c++) {
        const float g = value(gate + c);
        set(out + c, g * sigmoid(g) * value(up + c));
    }
}

// With s = sigmoid(g): dg = dy u s (1 + g (1 - s)), du = dy g s.
template <class Stored>
static void gated_back(const Rows& r, int64_t row, int) {
    const Stored *gate = (const Stored*)r.x + 2 * row * r.columns, *up = gate + r.columns;
    const Stored* dy = (const Stored*)r.gradient + row * r.columns;
    Stored *out = (Stored*)r.out + 2 * row * r.columns, *out_up = out + r.columns;
    for (int64_t c = 0; c < whole(r.columns); c += LANES) {
        const Vec g = get(gate + c), s = sigmoid<sizeof(Stored) == 4>(g), d = get(dy + c) * s;
        put(out + c, d * get(up + c) * (splat(1.f) + g * (splat(1.f) - s)));
        put(out_up + c, d * g);
    }
    for (int64_t c = whole(r.columns); c < r.columns; c++) {
        const float g = value(gate + c), s = sigmoid(g), d = value(dy + c) * s;
        set(out + c, d * value(up + c) * (1 + g * (1 - s)));
        set(out_up + c, d * g);
    }
}

static void each(const Rows& r, void (*work)(const Rows&, int64_t, int)) {
#pragma omp parallel for num_threads(r.threads) schedule(static)
    for (int64_t row = 0; row < r.rows; row++) work(r, row, omp_get_thread_num());
}

extern "C" {
void rms_norm_forward_float32(const Rows* r) { each(*r, normalised<float>); }
void rms_norm_forward_bfloat16(const Rows* r) { each(*r, normalised<bf16>); }
void rms_norm_backward_float32(const Rows* r) { each(*r, normalised_back<float>); }
void rms_norm_backward_bfloat16(const Rows* r) { each(*r, normalised_back<bf16>); }
void swiglu_forward_float32(const Rows* r) { each(*r, gated<float>); }
void swiglu_forward_bfloat16(const Rows* r) { each(*r, gated<bf16>); }
void swiglu_backward_float32(const Rows* r) { each(*r, gated_back<float>); }
void swiglu_backward_bfloat16(const Rows* r) { each(*r, gated_back<bf16>); }
}
