// Products q k as softmax takes them: biased by distance, hidden outside of a query's interval.
#pragma once

#include <cmath>

#include "packing.h"
#include "problem.h"
#include "vectors.h"


// What makes a product a score in units of log 2.
static inline float scale_of(const Problem& p) { return LOG2E / std::sqrt((float)p.width); }

// A row's intervals, kept inside of the row whatever the caller says; queries past its end see nothing.
struct Limits {
    int32_t *first, *last;
    Span* strips;  // of STRIP queries each

    Limits(Arena& arena, int64_t count)
        : first(arena.take<int32_t>(count)),
          last(arena.take<int32_t>(count)),
          strips(arena.take<Span>(count / STRIP)) {}

    void fill(const Problem& p, int64_t row, int64_t count) {
        std::fill(strips, strips + count / STRIP, Span{});
        for (int64_t at = 0; at < count; at++) {
            const bool real = at < p.length;
            const int64_t place = row * p.length + at, own = p.before + at;
            first[at] = real ? (int32_t)std::clamp<int64_t>(p.first[place], 0, own) : 0;
            last[at] = real ? (int32_t)std::clamp<int64_t>(p.last[place], own, p.before + p.length - 1) : -1;
            if (real) strips[at / STRIP].include(first[at], last[at] + 1);
        }
    }
    // The keys of `count` queries, a whole number of strips.
    Span span(int64_t begin, int64_t count) const {
        Span found;
        for (int64_t at = begin; at < begin + count; at += STRIP) found = found.with(strips[at / STRIP]);
        return found;
    }
};

// Queries [query, query + count) against keys [key, key + reach), `span` what those queries see. Their products stand
// `by_query` apart; ALiBi's bias goes in before the scale.
static inline void adjust(float* products, int64_t by_query, const Problem& p, const Limits& limits, const Span& span,
                          int64_t head, int64_t query, int64_t count, int64_t key, int64_t reach) {
    const Vec slope = splat(p.slopes ? p.slopes[head] * std::sqrt((float)p.width) : 0.f);
    for (int64_t x = 0; x < reach; x += LANES) {
        const Ints keys = splat((int32_t)(key + x)) + iota();
        const bool hide = !span.all_see(key + x, key + x + LANES);
        if (!hide && !p.slopes) continue;
        for (int64_t at = 0; at < count; at++) {
            const int64_t here = query + at;
            Vec found = load(products + at * by_query + x);
            const Vec distance = __builtin_convertvector(keys - splat((int32_t)(p.before + here)), Vec);
            if (p.slopes) found -= slope * larger(distance, -distance);
            const Ints seen = (keys >= splat(limits.first[here])) & (keys <= splat(limits.last[here]));
            if (hide) found = seen ? found : splat(-INFINITY);
            store(products + at * by_query + x, found);
        }
    }
}
