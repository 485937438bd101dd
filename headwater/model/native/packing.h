// Heads copied into the layouts that `matmul.h` reads, padded with zeros to whole blocks.
#pragma once

#include <type_traits>

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

// One token of a head, width numbers; zeros past the length. Widths are multiples of 16.
template <class Stored, class Number>
static INLINE void copy_token(Number* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t token) {
    if (token >= p.length) {
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

// Some tokens where they stand, if they are all there and need no conversion, otherwise copied to `buffer`.
template <class Stored, class Number>
struct Rows {
    const Number* data;
    int64_t apart;

    Rows(Number* buffer, int64_t count, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t token) {
        if (std::is_same<Stored, Number>::value && token + count <= p.length) {
            data = x.at<const Number>(row, head, token);
            apart = x.by_token;
            return;
        }
        for (int64_t at = 0; at < count; at++) copy_token<Stored>(buffer + at * WIDEST, p, x, row, head, token + at);
        data = buffer;
        apart = WIDEST;
    }
};

// Blocks of KEYS tokens as cells [count / KEYS, width / GROUP, KEYS]: lanes run over the tokens.
template <class N, class Stored>
static void across(float* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t count) {
    typedef typename N::Number Number;
    const int64_t cells = p.width / N::GROUP, whole = cells / LANES * LANES;
    Number buffer[LANES * WIDEST];
    for (int64_t token = 0; token < count; token += LANES) {
        const Rows<Stored, Number> rows(buffer, LANES, p, x, row, head, token);
        float* block = to + token / KEYS * KEYS * cells + token % KEYS;
        for (int64_t cell = 0; cell < whole; cell += LANES)
            transpose(block + cell * KEYS, KEYS, rows.data + cell * N::GROUP, rows.apart * sizeof(Number));
        for (int64_t cell = whole; cell < cells; cell++)
            for (int lane = 0; lane < LANES; lane++)
                memcpy(block + cell * KEYS + lane, rows.data + lane * rows.apart + cell * N::GROUP, 4);
    }
}

// Tokens as cells [count / GROUP, width]: lanes run over the width.
template <class N, class Stored>
static void down(float* to, const Problem& p, const Heads& x, int64_t row, int64_t head, int64_t count) {
    typedef typename N::Number Number;
    Number buffer[N::GROUP * WIDEST];
    for (int64_t token = 0; token < count; token += N::GROUP) {
        const Rows<Stored, Number> rows(buffer, N::GROUP, p, x, row, head, token);
        for (int64_t at = 0; at < p.width; at += 16)
            N::join(to + token / N::GROUP * p.width + at, rows.data + at, rows.apart);
    }
}

// The same from rows [count, width].
template <class N>
static void join(float* to, const typename N::Number* rows, int64_t count, int64_t width) {
    for (int64_t token = 0; token < count; token += N::GROUP)
        for (int64_t at = 0; at < width; at += 16)
            N::join(to + token / N::GROUP * width + at, rows + token * width + at, width);
}
