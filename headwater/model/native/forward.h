// Flash attention (2205.14135) forward: blocks of queries pass over the keys they see with a running softmax.
#pragma once

#include "matmul.h"
#include "packing.h"
#include "scores.h"

constexpr int REACH = 128;         // keys scored at once
constexpr float NOTHING = -1e30f;  // the maximum of no scores: finite, so that differences are
constexpr float SLACK = 8.f;       // a maximum is raised only by more: weights stay below 2^8

template <class N, class Stored>
struct Forward {
    typedef typename N::Number Number;
    const Problem& p;
    const int64_t padded;  // keys
    const float scale;
    Limits limits;
    Number *queries, *weights, *rows;
    float *keys, *values, *scores, *mixed;
    float maxima[STRIP];
    Vec sums[STRIP];

    Forward(const Problem& p, Arena& arena)
        : p(p),
          padded(rounded(p.before + p.length, KEYS)),
          scale(scale_of(p)),
          limits(arena, rounded(p.length, STRIP)) {
        rows = arena.take<Number>(padded * p.width);
        keys = arena.take<float>(padded * p.width / N::GROUP);
        values = arena.take<float>(padded * p.width / N::GROUP);
        queries = arena.take<Number>(STRIP * p.width);
        scores = arena.take<float>(STRIP * REACH);
        weights = arena.take<Number>(STRIP * REACH);
        mixed = arena.take<float>(STRIP * p.width);
    }

    // The query heads of one key/value head, every `parts`th strip of queries from `part` on.
    void run(int64_t row, int64_t kv_head, int64_t part, int64_t parts) {
        limits.fill(p, row, rounded(p.length, STRIP));
        copy_turned<Stored>(rows, p, p.key, row, kv_head, 0, padded);
        across<N>(keys, rows, padded, p.width);
        copy_rows<Stored>(rows, p, p.value, row, kv_head, 0, padded);
        down<N>(values, rows, padded, p.width);
        const int64_t group = p.heads / p.kv_heads;
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            for (int64_t begin = part * STRIP; begin < p.length; begin += parts * STRIP)
                strip(row, head, begin);
    }

    void strip(int64_t row, int64_t head, int64_t begin) {
        copy_turned<Stored>(queries, p, p.query, row, head, begin, STRIP);
        const Span span = limits.span(begin, STRIP);
        std::fill(mixed, mixed + STRIP * p.width, 0.f);
        std::fill(maxima, maxima + STRIP, NOTHING);
        std::fill(sums, sums + STRIP, Vec{});
        for (int64_t key = span.first / GRAIN * GRAIN; key < span.end; key += REACH) {
            const int64_t reach = rounded(std::min<int64_t>(REACH, span.end - key), GRAIN);
            const int64_t cells = p.width / N::GROUP;
            for (int64_t at = key; at < key + reach;) {  // block by block
                const int64_t end = std::min(at / KEYS * KEYS + KEYS, key + reach);
                multiply<N, false>(STRIP, end - at, cells, {(float*)queries, cells, 1},
                                   {keys + at / KEYS * KEYS * cells + at % KEYS, KEYS}, scores + at - key, REACH);
                at = end;
            }
            adjust(scores, REACH, p, limits, span, head, begin, STRIP, key, reach);
            for (int64_t at = 0; at < STRIP; at++) weigh(at, reach);
            multiply<N, true>(STRIP, p.width, reach / N::GROUP, {(float*)weights, REACH / N::GROUP, 1},
                              {values + key / N::GROUP * p.width, p.width}, mixed, p.width);
        }
        for (int64_t at = 0; at < std::min<int64_t>(STRIP, p.length - begin); at++) finish(row, head, begin, at);
    }

    // One query's weights from its scores; what it gathered so far is scaled to a new maximum.
    void weigh(int64_t at, int64_t reach) {
        const float* products = scores + at * REACH;
        Vec most = splat(NOTHING);
        for (int64_t x = 0; x < reach; x += LANES) most = larger(most, load(products + x));
        if (any_above(most * splat(scale), maxima[at] + SLACK)) raise(at, largest(most) * scale);
        const Vec shift = splat(maxima[at]);
        Vec sum = sums[at];
        for (int64_t x = 0; x < reach; x += LANES) {
            const Vec weight = exp2<N::EXACT>(load(products + x) * splat(scale) - shift);
            sum += weight;
            put(weights + at * REACH + x, weight);
        }
        sums[at] = sum;
    }

    void raise(int64_t at, float maximum) {
        const Vec shrink = exp2<N::EXACT>(splat(maxima[at] - maximum));
        for (int64_t x = 0; x < p.width; x += LANES)
            store(mixed + at * p.width + x, load(mixed + at * p.width + x) * shrink);
        sums[at] = sums[at] * shrink;
        maxima[at] = maximum;
    }

    void finish(int64_t row, int64_t head, int64_t begin, int64_t at) {
        const float sum = total(sums[at]);
        Stored* out = p.out.at<Stored>(row, head, begin + at);
        for (int64_t x = 0; x < p.width; x += LANES) put(out + x, load(mixed + at * p.width + x) * splat(1 / sum));
        p.normalizer[(row * p.heads + head) * p.length + begin + at] = maxima[at] / LOG2E + std::log(sum);
    }
};
