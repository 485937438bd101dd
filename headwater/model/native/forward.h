// Flash attention (2205.14135) forward: blocks of queries pass over the keys they see with a running softmax.
#pragma once

#include "matmul.h"
#include "packing.h"
#include "scores.h"

constexpr int REACH = 128;        // keys scored at once
constexpr float NOTHING = -1e30f;  // the maximum of no scores: finite, so that differences are

template <class N, class Stored>
struct Forward {
    typedef typename N::Number Number;
    const Problem& p;
    const int64_t padded;
    Limits limits;
    Number *rows, *queries, *weights;
    float *keys, *values, *scores, *mixed;
    float maxima[STRIP];
    Vec sums[STRIP];

    Forward(const Problem& p, Arena& arena) : p(p), padded(rounded(p.length, KEYS)) {
        limits = {arena.take<int32_t>(padded), arena.take<int32_t>(padded)};
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
        limits.fill(p, row, padded);
        copy_rows<Stored>(rows, p, p.key, row, kv_head, 0, padded);
        transpose<N>(keys, rows, padded, p.width);
        copy_rows<Stored>(rows, p, p.value, row, kv_head, 0, padded);
        interleave(N{}, values, rows, padded, p.width);
        const int64_t group = p.heads / p.kv_heads;
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            for (int64_t begin = part * STRIP; begin < p.length; begin += parts * STRIP) {
                if (p.slopes) strip<true>(row, head, begin);
                else strip<false>(row, head, begin);
            }
    }

    template <bool BIAS>
    void strip(int64_t row, int64_t head, int64_t begin) {
        copy_rows<Stored>(queries, p, p.query, row, head, begin, begin + STRIP);
        const Span span = limits.span(begin, begin + STRIP);
        std::fill(mixed, mixed + STRIP * p.width, 0.f);
        std::fill(maxima, maxima + STRIP, NOTHING);
        std::fill(sums, sums + STRIP, Vec{});
        for (int64_t key = span.first / LANES * LANES; key < span.end; key += REACH) {
            const int64_t reach = rounded(std::min<int64_t>(REACH, span.end - key), LANES);
            multiply<N, false>(STRIP, reach, p.width / N::GROUP, {(float*)queries, p.width / N::GROUP, 1},
                               {keys + key, padded}, scores, REACH);
            const bool all = span.all_see(key, key + reach);
            for (int64_t at = 0; at < STRIP; at++) {
                const Scoring how = scoring(head, begin + at);
                if (all) weigh<BIAS, false>(at, key, reach, how);
                else weigh<BIAS, true>(at, key, reach, how);
            }
            multiply<N, true>(STRIP, p.width, reach / N::GROUP, {(float*)weights, REACH / N::GROUP, 1},
                              {values + key / N::GROUP * p.width, p.width}, mixed, p.width);
        }
        for (int64_t at = 0; at < std::min<int64_t>(STRIP, p.length - begin); at++) finish(row, head, begin, at);
    }

    Scoring scoring(int64_t head, int64_t query) const {
        return {LOG2E / std::sqrt((float)p.width), p.slopes ? p.slopes[head] * LOG2E : 0.f, (int32_t)query,
                limits.first[query], limits.last[query]};
    }

    // One query's weights from its scores; what it gathered so far is scaled to the new maximum.
    template <bool BIAS, bool HIDE>
    void weigh(int64_t at, int64_t key, int64_t reach, const Scoring& how) {
        float* products = scores + at * REACH;
        Vec most = splat(NOTHING);
        for (int64_t x = 0; x < reach; x += LANES) {
            const Vec found = score<BIAS, HIDE>(load(products + x), (int32_t)(key + x), how);
            if (BIAS || HIDE) store(products + x, found);
            most = larger(most, found);
        }
        const float maximum = std::max(maxima[at], largest(most));
        if (maximum > maxima[at]) {
            const Vec shrink = exp2<N::EXACT>(splat(maxima[at] - maximum));
            for (int64_t x = 0; x < p.width; x += LANES)
                store(mixed + at * p.width + x, load(mixed + at * p.width + x) * shrink);
            sums[at] = sums[at] * shrink;
            maxima[at] = maximum;
        }
        for (int64_t x = 0; x < reach; x += LANES) {
            const Vec found = BIAS || HIDE ? load(products + x) : load(products + x) * splat(how.scale);
            const Vec weight = exp2<N::EXACT>(found - splat(maximum));
            sums[at] = sums[at] + weight;
            put(weights + at * REACH + x, weight);
        }
    }

    void finish(int64_t row, int64_t head, int64_t begin, int64_t at) {
        const float sum = total(sums[at]);
        Stored* out = p.out.at<Stored>(row, head, begin + at);
        for (int64_t x = 0; x < p.width; x += LANES) put(out + x, load(mixed + at * p.width + x) * splat(1 / sum));
        p.normalizer[(row * p.heads + head) * p.length + begin + at] = maxima[at] / LOG2E + std::log(sum);
    }
};
