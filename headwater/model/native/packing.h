// Heads copied into the layouts that `matmul.h` reads, padded with zeros to whole blocks.
#pragma once

#include "problem.h"
#include "vectors.h"

// Hands out parts of one piece of memory; without memory it only counts.
struct Arena {
    char* base = nullptr;
    int64_t used = 0;

    template <class Number>
    Number* take(int64_t count) {
        Number* part = base ? (Number*)(base + used) : nullptr;
        used += rounded(count * (int64_t)sizeof(Number), 64);
        return part;
    }
};

// A token's pairs turned by its angles (RoFormer, 2104.09864); BACK: a gradient carried through that.
template <bool BACK, int64_t STEP>
static INLINE void turn_pairs(float* __restrict one, float* __restrict two, const float* __restrict c,
                              const float* __restrict s, int64_t apart, int64_t count) {
    for (int64_t at = 0; at < count; at++) {
        const int64_t i = at * STEP, j = i + apart;
        const float a = one[i], b = two[i];
        one[i] = BACK ? a * c[i] + b * s[j] : a * c[i] - b * s[i];
        two[i] = BACK ? b * c[j] - a * s[i] : b * c[j] + a * s[j];
    }
}

template <bool BACK>
static INLINE void turn(float* x, const Problem& p, int64_t row, int64_t token) {
    const int64_t at = row * p.tables_by_row + token * p.rotated, half = p.rotated / 2;
    const float *c = p.cosines + at, *s = p.sines + at;
    if (p.interleaved) turn_pairs<BACK, 2>(x, x + 1, c, s, 1, half);
    else turn_pairs<BACK, 1>(x, x + half, c, s, half, half);
}

// One token of a head, width numbers; zeros past the end. Widths are multiples of 16.
template <class Stored, class Number>
static INLINE void copy_token(Number* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t token) {
    if (token >= x.tokens) {
        memset(to, 0, p.width * sizeof *to);
        return;
    }
    const Stored* from = x.at<const Stored>(row, head, token);
    for (int64_t at = 0; at < p.width; at += 16) copy16(to + at, from + at);
}

// Tokens [begin, begin + count) as rows of their own, [count, width].
template <class Stored, class Number>
static void copy_rows(Number* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t begin,
                      int64_t count) {
    for (int64_t at = 0; at < count; at++) copy_token<Stored>(to + at * p.width, p, x, row, head, begin + at);
}

// The same of queries and keys, turned to their positions.
template <class Stored, class Number>
static void copy_turned(Number* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t begin,
                        int64_t count) {
    if (!p.cosines) return copy_rows<Stored>(to, p, x, row, head, begin, count);
    alignas(64) float turned[WIDEST];
    for (int64_t token = begin; token < begin + count; token++, to += p.width) {
        copy_token<Stored>(turned, p, x, row, head, token);
        if (token < x.tokens) turn<false>(turned, p, row, token);
        for (int64_t at = 0; at < p.width; at += LANES) put(to + at, load(turned + at));
    }
}

// Numbers of one token into a gradient.
template <class Stored>
static INLINE void write_token(const Problem& p, const Heads& to, int64_t row, int64_t head, int64_t token,
                               float* numbers, bool turned) {
    if (turned && p.cosines) turn<true>(numbers, p, row, token);
    for (int64_t at = 0; at < p.width; at += LANES) put(to.at<Stored>(row, head, token) + at, load(numbers + at));
}

// rows [count, width] as cells [count / KEYS, width / GROUP, KEYS]: lanes run over the rows of a block.
template <class N>
static void across(float* to, const typename N::Number* rows, int64_t count, int64_t width) {
    const int64_t cells = width / N::GROUP, whole = cells / LANES * LANES;
    for (int64_t token = 0; token < count; token += LANES) {
        const float* from = (const float*)(rows + token * width);
        float* block = to + token / KEYS * KEYS * cells + token % KEYS;
        for (int64_t cell = 0; cell < whole; cell += LANES)
            transpose(block + cell * KEYS, KEYS, from + cell, 4 * cells);
        for (int64_t cell = whole; cell < cells; cell++)
            for (int lane = 0; lane < LANES; lane++) memcpy(block + cell * KEYS + lane, from + lane * cells + cell, 4);
    }
}

// rows [count, width] as cells [count / GROUP, width]: lanes run over the width.
template <class N>
static void down(float* to, const typename N::Number* rows, int64_t count, int64_t width) {
    for (int64_t token = 0; token < count; token += N::GROUP)
        for (int64_t at = 0; at < width; at += 16)
            N::join(to + token / N::GROUP * width + at, rows + token * width + at, width);
}
