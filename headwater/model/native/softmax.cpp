// The softmax of rows of logits and the gradient of its cross-entropy, in place, with a plain C interface.
// See headwater/model/native/softmax.py.

#include <cmath>
#include <omp.h>

#include "vectors.h"

struct Logits {
    void* data;
    int64_t rows, columns;
    const int64_t* targets;  // [rows], a column, or -1 for none of them
    float *highest, *normalizer, *wanted;  // [rows]
    int64_t* at;                           // [rows], column of the highest
    float divisor, max_z, z;
    int32_t threads;
};

template <class Stored>
static void statistics_of(const Logits& l, int64_t row) {
    const Stored* x = (const Stored*)l.data + row * l.columns;
    Vec top = splat(-INFINITY);
    for (int64_t c = 0; c < whole(l.columns); c += LANES) top = larger(get(x + c), top);
    float highest = largest(top);
    for (int64_t c = whole(l.columns); c < l.columns; c++) highest = std::fmax(highest, value(x + c));
    int64_t at = 0;
    while (at < l.columns - 1 && !(value(x + at) >= highest)) at++;
    Vec sums{};
    const Vec shift = splat(highest * LOG2E);
    for (int64_t c = 0; c < whole(l.columns); c += LANES) sums += exp2<true>(get(x + c) * splat(LOG2E) - shift);
    double sum = total(sums);
    for (int64_t c = whole(l.columns); c < l.columns; c++) sum += std::exp(value(x + c) - highest);
    l.highest[row] = highest;
    l.at[row] = at;
    l.normalizer[row] = highest + (float)std::log(sum);
    l.wanted[row] = l.targets[row] < 0 ? 0.f : value(x + l.targets[row]);
}

template <class Stored>
static void gradient_of(const Logits& l, int64_t row) {
    Stored* x = (Stored*)l.data + row * l.columns;
    const int64_t target = l.targets[row], at = l.at[row];
    const float own = target < 0 ? 0.f : value(x + target), top = at < 0 ? 0.f : value(x + at);
    const float scale = (1 + 2 * l.z * l.normalizer[row]) / l.divisor, shift = l.normalizer[row];
    for (int64_t c = 0; c < whole(l.columns); c += LANES) {
        const Vec part = (get(x + c) - splat(shift)) * splat(LOG2E);
        put(x + c, exp2<true>(part) * splat(scale));
    }
    for (int64_t c = whole(l.columns); c < l.columns; c++) set(x + c, std::exp(value(x + c) - shift) * scale);
    // What a row has one of is set again from the logits, so that it is rounded once.
    float here = target < 0 ? 0.f : std::exp(own - shift) * scale - 1 / l.divisor;
    const float pull = at < 0 ? 0.f : 2 * l.max_z * l.highest[row] / l.divisor;
    if (at >= 0 && at == target) here += pull;
    if (target >= 0) set(x + target, here);
    if (at >= 0 && at != target && pull != 0) set(x + at, std::exp(top - shift) * scale + pull);
}

static void each(const Logits& l, void (*work)(const Logits&, int64_t)) {
#pragma omp parallel for num_threads(l.threads) schedule(static)
    for (int64_t row = 0; row < l.rows; row++) work(l, row);
}

extern "C" {
void softmax_statistics_float32(const Logits* l) { each(*l, statistics_of<float>); }
void softmax_statistics_bfloat16(const Logits* l) { each(*l, statistics_of<bf16>); }
void softmax_gradient_float32(const Logits* l) { each(*l, gradient_of<float>); }
void softmax_gradient_bfloat16(const Logits* l) { each(*l, gradient_of<bf16>); }
}
