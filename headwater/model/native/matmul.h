// Small matrix products over cells (see vectors.h), their result held in registers.
#pragma once

#include "vectors.h"

// A factor whose cell for a row and a step of the sum stands at data[row * by_row + step * by_step].
struct Left {
    const float* data;
    long by_row, by_step;
};

// A factor whose cells for one step of the sum and all columns stand side by side.
struct Right {
    const float* data;
    long by_step;
};

template <class N, int HEIGHT, int VECTORS, bool ADD>
static INLINE void tile(Left a, Right b, float* c, long by_row, long steps) {
    Vec sums[HEIGHT][VECTORS];
    for (int row = 0; row < HEIGHT; row++)
        for (int v = 0; v < VECTORS; v++) sums[row][v] = ADD ? load(c + row * by_row + v * LANES) : Vec{};
    for (long step = 0; step < steps; step++) {
        Vec columns[VECTORS];
        for (int v = 0; v < VECTORS; v++) columns[v] = load(b.data + step * b.by_step + v * LANES);
        for (int row = 0; row < HEIGHT; row++) {
            const Vec cell = repeated(a.data + row * a.by_row + step * a.by_step);
            for (int v = 0; v < VECTORS; v++) sums[row][v] = N::dot(sums[row][v], cell, columns[v]);
        }
    }
    for (int row = 0; row < HEIGHT; row++)
        for (int v = 0; v < VECTORS; v++) store(c + row * by_row + v * LANES, sums[row][v]);
}

constexpr int ROWS = LANES == 8 ? 4 : 8;  // AVX2 has half the registers

template <class N, int VECTORS, bool ADD>
static INLINE void panel(long rows, long steps, Left a, Right b, float* c, long by_row) {
    for (long row = 0; row < rows; row += ROWS) {
        tile<N, ROWS, VECTORS, ADD>(a, b, c, by_row, steps);
        a.data += ROWS * a.by_row;
        c += ROWS * by_row;
    }
}

// c[rows x columns] = a b, or += with ADD. Rows are a multiple of 8, columns of LANES.
// Never inlined: the sums need all registers.
template <class N, bool ADD>
static __attribute__((noinline)) void multiply(long rows, long columns, long steps, Left a, Right b, float* c,
                                               long by_row) {
    long at = 0;
    for (; at + 2 * LANES <= columns; at += 2 * LANES)
        panel<N, 2, ADD>(rows, steps, a, {b.data + at, b.by_step}, c + at, by_row);
    if (at < columns) panel<N, 1, ADD>(rows, steps, a, {b.data + at, b.by_step}, c + at, by_row);
}
