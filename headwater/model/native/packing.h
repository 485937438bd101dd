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

static INLINE void copy(float* to, const float* from, int64_t count) { memcpy(to, from, count * sizeof *to); }
static INLINE void copy(bf16* to, const bf16* from, int64_t count) { memcpy(to, from, count * sizeof *to); }
static INLINE void copy(float* to, const bf16* from, int64_t count) {
    for (int64_t at = 0; at < count; at++) to[at] = widened(from[at]);
}

// Tokens [begin, end) of a head as rows of their own [end - begin, width]; those past the length are zeros.
template <class Stored, class Number>
static void copy_rows(Number* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t begin,
                      int64_t end) {
    const int64_t real = std::min(end, p.length);
    for (int64_t at = begin; at < real; at++)
        copy(to + (at - begin) * p.width, x.at<const Stored>(row, head, at), p.width);
    memset(to + (real - begin) * p.width, 0, (end - real) * p.width * sizeof *to);
}

// rows [count, width] as cells [width / GROUP, count]: lanes run over the rows.
template <class N>
static void transpose(float* to, const typename N::Number* rows, int64_t count, int64_t width) {
    const float* from = (const float*)rows;
    const int64_t cells = width / N::GROUP;
    for (int64_t at = 0; at < count; at += LANES)
        for (int64_t cell = 0; cell < cells; cell++)
            for (int lane = 0; lane < LANES; lane++) memcpy(to + cell * count + at + lane, from + (at + lane) * cells + cell, 4);
}

// rows [count, width] as cells [count / GROUP, width]: lanes run over the width.
static inline void interleave(Float32, float* to, const float* rows, int64_t count, int64_t width) {
    memcpy(to, rows, count * width * sizeof *to);
}

#if defined(__AVX512BF16__)
static inline void interleave(BFloat16, float* to, const bf16* rows, int64_t count, int64_t width) {
    uint32_t* cells = (uint32_t*)to;
    for (int64_t at = 0; at < count; at += 2, rows += 2 * width, cells += width)
        for (int64_t x = 0; x < width; x++) cells[x] = rows[x] | (uint32_t)rows[width + x] << 16;
}
#endif
