// From products q k to what softmax takes: scaled, biased by distance, hidden outside of a query's interval.
#pragma once

#include <cmath>

#include "problem.h"
#include "vectors.h"

constexpr float LOG2E = 1.44269504088896341f;

// What a query's scores are made with, in units of log 2.
struct Scoring {
    float scale, slope;
    int32_t query, first, last;
};

// The scores of the keys from `key` on, for one query. HIDE: some may lie outside of its interval.
template <bool BIAS, bool HIDE>
static INLINE Vec score(Vec products, int32_t key, const Scoring& how) {
    Vec x = products * splat(how.scale);
    const Ints keys = splat(key) + iota();
    if (BIAS) {
        const Vec distance = __builtin_convertvector(keys - splat(how.query), Vec);
        x -= splat(how.slope) * larger(distance, -distance);
    }
    if (HIDE) x = (keys >= splat(how.first)) & (keys <= splat(how.last)) ? x : splat(-INFINITY);
    return x;
}

// A row's intervals, kept inside of the row whatever the caller says; queries past its end see nothing.
struct Limits {
    int32_t *first, *last;

    void fill(const Problem& p, int64_t row, int64_t count) {
        for (int64_t at = 0; at < count; at++) {
            const bool real = at < p.length;
            first[at] = real ? (int32_t)std::clamp<int64_t>(p.first[row * p.length + at], 0, at) : 0;
            last[at] = real ? (int32_t)std::clamp<int64_t>(p.last[row * p.length + at], at, p.length - 1) : -1;
        }
    }
    // The keys of queries [begin, end).
    Span span(int64_t begin, int64_t end) const {
        Span found;
        for (int64_t at = begin; at < end && last[at] >= 0; at++) found.include(first[at], last[at] + 1);
        return found;
    }
};
