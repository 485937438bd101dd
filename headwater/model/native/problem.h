// One call's tensors, as `kernel.py` describes them.
#pragma once

#include <algorithm>
#include <cstdint>

// A tensor [B, heads, tokens, width] whose last dimension is contiguous; the strides of the others, in numbers.
struct Heads {
    void* data;
    int64_t by_row, by_head, by_token, tokens;

    template <class Number>
    Number* at(int64_t row, int64_t head, int64_t token = 0) const {
        return (Number*)data + row * by_row + head * by_head + token * by_token;
    }
};

struct Problem {
    Heads query, key, value, out;
    Heads out_gradient, query_gradient, key_gradient, value_gradient;  // backward alone
    float* normalizer;                                                // [B,H,T]: log-sum-exps of the scores
    const int64_t *first, *last;                                      // [B,T], keys
    const float* slopes;                                              // [H] or null
    const float *cosines, *sines;                                     // [B or 1, T, rotated]: turn q and k; or null
    int64_t tables_by_row, rotated;
    int64_t rows, heads, kv_heads, length, width;
    int64_t before;       // keys before that of the first query; forward alone, and with no tables
    int32_t interleaved;  // pairs are (2i, 2i + 1), otherwise (i, i + rotated / 2)
    int32_t threads;
};

constexpr int KEYS = 64;     // in a block
constexpr int QUERIES = 64;  // in a block
constexpr int STRIP = 32;    // queries that are trimmed to the keys they see
constexpr int GRAIN = 16;    // of that trimming
constexpr int WIDEST = 256;  // head

static inline int64_t rounded(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// The keys that several queries see: all of them some of [first, end), and each all of [inner_first, inner_end).
struct Span {
    int64_t first = INT64_MAX, end = 0, inner_first = 0, inner_end = INT64_MAX;

    void include(int64_t from, int64_t to) {
        first = std::min(first, from);
        end = std::max(end, to);
        inner_first = std::max(inner_first, from);
        inner_end = std::min(inner_end, to);
    }
    Span with(const Span& other) const {
        return {std::min(first, other.first), std::max(end, other.end), std::max(inner_first, other.inner_first),
                std::min(inner_end, other.inner_end)};
    }
    bool all_see(int64_t from, int64_t to) const { return inner_first <= from && to <= inner_end; }
};
