// Products of a matrix's rows with few vectors, from the weights as they are stored. A processor waits for the weights
// here: each is read once and widened in registers.
#pragma once

#include "vectors.h"

enum Form : int32_t { FLOAT32, BFLOAT16, INT8, INT4 };

struct Matrix {
    const void* weights;   // [rows, columns]; INT4: [rows, columns / 2], the first of two weights in the lower four bits
    const void* scale;     // INT8: float32 [rows]; INT4: float16 [rows, columns / group]
    const uint8_t* zero;   // INT4: as the scales
    const float* bias;     // [rows], or null
    const float* divisor;  // [rows], or null: products are divided by it
    int64_t rows, columns;
    int32_t form, group;
};

constexpr int UNIT = 8 * LANES;  // columns whose INT4 codes fill a vector; vectors of x are padded to a multiple
constexpr int FINEST = 32;       // columns of the smallest group

static INLINE int64_t padded(int64_t columns) { return (columns + UNIT - 1) / UNIT * UNIT; }

// Vectors as a matrix meets them: numbers in the order in which its weights come out of a register, zeros behind them.
struct Input {
    float* numbers;  // [count, padded(columns)], as Cell::Number
    float* sums;     // [count, padded(columns) / FINEST + 2 LANES]: of an INT4 matrix's groups
    int64_t count, columns;

    int64_t sums_step() const { return padded(columns) / FINEST + 2 * LANES; }
    static int64_t floats(int64_t count, int64_t columns) {
        return count * (padded(columns) + padded(columns) / FINEST + 2 * LANES);
    }
    static Input in(float* memory, int64_t count, int64_t columns) {
        return {memory, memory + count * padded(columns), count, columns};
    }
};

template <class Cell>
static INLINE typename Cell::Number* numbers_of(const Input& x, int64_t which) {
    return (typename Cell::Number*)x.numbers + which * padded(x.columns);
}

static INLINE float half(uint16_t x) {
    const uint32_t bits = (uint32_t)(x & 0x7fff) << 13, sign = (uint32_t)(x & 0x8000) << 16;
    float y;
    memcpy(&y, &bits, 4);
    y *= 0x1p112f;  // the exponent's other bias; what is below the least normal number is right too
    uint32_t whole;
    memcpy(&whole, &y, 4);
    whole |= sign;
    memcpy(&y, &whole, 4);
    return y;
}

// LANES numbers, so many places apart.
static INLINE Vec gathered(const float* from, int apart) {
#if defined(__AVX512F__)
    return _mm512_i32gather_ps((__m512i)(iota() * apart), from, 4);
#else
    Vec found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = from[lane * apart];
    return found;
#endif
}

// Fill in vector `which` from floats that are padded with zeros as it is.
template <class Cell>
static void prepare(const Input& x, int64_t which, const float* from, const Matrix& m) {
    auto* to = numbers_of<Cell>(x, which);
    const int64_t end = padded(m.columns);
    if (m.form != INT4) {
        for (int64_t c = 0; c < end; c += LANES) put(to + c, load(from + c));
        return;
    }
    constexpr int TURNS = 8 / Cell::GROUP, WIDE = UNIT / TURNS;
    for (int64_t at = 0; at < end; at += UNIT)
        for (int turn = 0; turn < TURNS; turn++)
            for (int place = 0; place < WIDE; place += LANES)
                put(to + at + turn * WIDE + place, gathered(from + at + place * TURNS + turn, TURNS));
    float* sums = x.sums + which * x.sums_step();
    const int64_t groups = m.columns / m.group;
    for (int64_t g = 0; g < groups; g++) {
        Vec sum{};
        for (int64_t c = g * m.group; c < (g + 1) * m.group; c += LANES) {
            typename Cell::Number rounded[LANES];
            put(rounded, load(from + c));
            sum += get(rounded);
        }
        sums[g] = total(sum);
    }
    store(sums + groups, Vec{});
}

// A vector of cells from stored weights.
static INLINE Vec cells(Float32, const float* from) { return load(from); }
static INLINE Vec cells(Float32, const bf16* from) { return get(from); }
static INLINE Vec cells(Float32, const int8_t* from) { return get(from); }
// What four bits mean, 0 to 15, as cells to look up. Out of the compiler's sight, which would load them at each use.
static INLINE Vec steps(Float32) {
    Vec found = __builtin_convertvector(iota(), Vec);
#if defined(__AVX512F__)
    asm("" : "+v"(found));
#endif
    return found;
}
// The weights of cells that stand `turn` places behind the first of eight (of four, where a cell holds two).
static INLINE Vec unpacked(Float32, Vec numbers, Ints codes, int turn) {
#if defined(__AVX512F__)
    return _mm512_permutexvar_ps((__m512i)(codes >> (4 * turn)), numbers);
#else
    (void)numbers;
    return __builtin_convertvector((codes >> (4 * turn)) & 15, Vec);
#endif
}
#if defined(__AVX512BF16__)
static INLINE Vec cells(BFloat16, const bf16* from) { return load(from); }
static INLINE Vec cells(BFloat16, const int8_t* from) {
    return (Vec)_mm512_cvtne2ps_pbh(cells(Float32{}, from + 16), cells(Float32{}, from));
}
// 0 to 15 twice: an index has five bits, of which the highest is another code's.
alignas(64) static const bf16 STEPS_TWICE[2 * LANES] = {
    0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170,
    0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
static INLINE Vec steps(BFloat16) {
    Vec found = load(STEPS_TWICE);
    asm("" : "+v"(found));
    return found;
}
static INLINE Vec unpacked(BFloat16, Vec numbers, Ints codes, int turn) {
    return (Vec)_mm512_permutexvar_epi16((__m512i)(codes >> (4 * turn)), (__m512i)numbers);
}
#endif

// Ask for what is read DISTANCE bytes later: HEIGHT rows are read side by side, and the next HEIGHT behind them. Without
// it a processor with a modest prefetcher reads at half its memory's speed.
constexpr int64_t DISTANCE = 4096;

template <int HEIGHT>
static INLINE void fetch(const void* row, int64_t at, int64_t bytes) {
    const int64_t later = at + DISTANCE, place = later < bytes ? later : later + (HEIGHT - 1) * bytes;
    __builtin_prefetch((const char*)row + place, 0, 3);
}

template <int HEIGHT, int WIDTH>
static INLINE void all_totals(Vec (&x)[HEIGHT][WIDTH], float (&y)[HEIGHT][WIDTH]) {
    constexpr int COUNT = HEIGHT * WIDTH;
    if constexpr (COUNT == 1) {
        y[0][0] = total(x[0][0]);
    } else {
        const Vec found = totals<COUNT>(*(Vec(*)[COUNT])x);
        memcpy(y, &found, sizeof y);
    }
}

// y[w][x] for HEIGHT rows of a matrix whose weights are numbers, and WIDTH vectors. Two sums each: additions wait for
// each other. How many rows and vectors go together changes no bit.
template <class Cell, class Stored, int HEIGHT, int WIDTH>
static INLINE void plain(const Matrix& m, int64_t row, const Input& x, int64_t first, float (&y)[HEIGHT][WIDTH]) {
    constexpr int STEP = LANES * Cell::GROUP;
    const Stored* weights = (const Stored*)m.weights + row * m.columns;
    const int64_t step = padded(m.columns), end = m.columns / STEP * STEP;
    const auto* numbers = numbers_of<Cell>(x, first);
    Vec sums[2][HEIGHT][WIDTH]{};
    const auto add = [&](const Stored* from, int64_t by_row, int64_t at, Vec(&into)[HEIGHT][WIDTH]) __attribute__((always_inline)) {
        Vec factor[WIDTH];
        for (int v = 0; v < WIDTH; v++) factor[v] = load(numbers + v * step + at);
        for (int w = 0; w < HEIGHT; w++) {
            const Vec cell = cells(Cell{}, from + w * by_row);
            for (int v = 0; v < WIDTH; v++) into[w][v] = Cell::dot(into[w][v], factor[v], cell);
        }
    };
    int64_t at = 0;
    for (; at + 2 * STEP <= end; at += 2 * STEP) {
        for (int w = 0; w < HEIGHT; w++)
            for (size_t line = 0; line < 2 * STEP * sizeof(Stored); line += 64)
                fetch<HEIGHT>(weights + w * m.columns, at * sizeof(Stored) + line, m.columns * sizeof(Stored));
        add(weights + at, m.columns, at, sums[0]);
        add(weights + at + STEP, m.columns, at + STEP, sums[1]);
    }
    for (int side = 0; at < m.columns; at += STEP, side = 1) {
        if (at < end) {
            add(weights + at, m.columns, at, sums[side]);
            continue;
        }
        Stored rest[HEIGHT * STEP]{};
        for (int w = 0; w < HEIGHT; w++)
            memcpy(rest + w * STEP, weights + w * m.columns + at, (m.columns - at) * sizeof(Stored));
        add(rest, STEP, at, sums[side]);
    }
    for (int w = 0; w < HEIGHT; w++)
        for (int v = 0; v < WIDTH; v++) sums[0][w][v] += sums[1][w][v];
    all_totals(sums[0], y);
    for (int w = 0; m.form == INT8 && w < HEIGHT; w++)
        for (int v = 0; v < WIDTH; v++) y[w][v] *= ((const float*)m.scale)[row + w];
}

// LANES scales or zeros of a row's groups, of which the first `left` are there.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
static INLINE __mmask16 first(int64_t left) { return left < LANES ? (1 << left) - 1 : 0xffff; }

static INLINE Vec widened(const uint16_t* from, int64_t left) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(left), from));
}

static INLINE Vec widened(const uint8_t* from, int64_t left) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(left), from)));
}
#else
static INLINE Vec widened(const uint16_t* from, int64_t left) {
    Vec found{};
    for (int lane = 0; lane < LANES && lane < left; lane++) found[lane] = half(from[lane]);
    return found;
}

static INLINE Vec widened(const uint8_t* from, int64_t left) {
    Vec found{};
    for (int lane = 0; lane < LANES && lane < left; lane++) found[lane] = from[lane];
    return found;
}
#endif

// The scales of a vector of codes, one for eight columns in each lane.
static INLINE Vec spread(Vec scales, Ints places) {
#if defined(__AVX512F__)
    return _mm512_permutexvar_ps((__m512i)places, scales);
#else
    Vec found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = scales[places[lane]];
    return found;
#endif
}

// The same for four bits: sum of scale (code - zero) x = sum of scale (sum of code x) - sum of scale zero (sum of x).
// LANES groups after LANES groups, their scales in registers.
template <class Cell, int HEIGHT, int WIDTH>
static INLINE void grouped(const Matrix& m, int64_t row, const Input& x, int64_t first, float (&y)[HEIGHT][WIDTH]) {
    constexpr int TURNS = 8 / Cell::GROUP, WIDE = UNIT / TURNS;
    const int64_t bytes = m.columns / 2, step = padded(m.columns), groups = m.columns / m.group;
    const uint8_t *codes = (const uint8_t*)m.weights + row * bytes, *zeros = m.zero + row * groups;
    const uint16_t* halves = (const uint16_t*)m.scale + row * groups;
    const auto* numbers = numbers_of<Cell>(x, first);
    const int log_group = __builtin_ctz(m.group);
    const Ints places = iota() * 8 >> log_group;
    const Vec table = steps(Cell{});
    Vec sums[HEIGHT][WIDTH]{}, scales[HEIGHT];
    const auto add = [&](int w, int64_t at, int32_t group, Ints packed) __attribute__((always_inline)) {
        Vec part[WIDTH]{};
        for (int turn = 0; turn < TURNS; turn++) {
            const Vec cell = unpacked(Cell{}, table, packed, turn);
            for (int v = 0; v < WIDTH; v++)
                part[v] = Cell::dot(part[v], load(numbers + v * step + at + turn * WIDE), cell);
        }
        const Vec scale = spread(scales[w], places + group);
        for (int v = 0; v < WIDTH; v++) sums[w][v] += scale * part[v];
    };
    for (int64_t g = 0; g < groups; g += LANES) {
        for (int w = 0; w < HEIGHT; w++) {
            scales[w] = widened(halves + w * groups + g, groups - g);
            const Vec shift = scales[w] * widened(zeros + w * groups + g, groups - g);
            __builtin_prefetch(halves + (HEIGHT + w) * groups + g);
            __builtin_prefetch(zeros + (HEIGHT + w) * groups + g);
            for (int v = 0; v < WIDTH; v++) sums[w][v] -= shift * load(x.sums + (first + v) * x.sums_step() + g);
        }
        int64_t at = g << log_group;
        const int64_t end = groups - g < LANES ? m.columns : (g + LANES) << log_group;
        for (; at + UNIT <= end; at += UNIT)
            for (int w = 0; w < HEIGHT; w++) {
                fetch<HEIGHT>(codes + w * bytes, at / 2, bytes);
                add(w, at, (at >> log_group) - g, (Ints)load(codes + w * bytes + at / 2));
            }
        for (int w = 0; at < end && w < HEIGHT; w++) {
            Ints packed{};
            memcpy(&packed, codes + w * bytes + at / 2, (m.columns - at) / 2);
            add(w, at, (at >> log_group) - g, packed);
        }
    }
    all_totals(sums, y);
}

template <class Cell, Form FORM, int HEIGHT, int WIDTH>
static INLINE void some(const Matrix& m, int64_t row, const Input& x, int64_t first, float* y,
                        int64_t by_vector) {
    float found[HEIGHT][WIDTH];
    if constexpr (FORM == INT4) grouped<Cell>(m, row, x, first, found);
    if constexpr (FORM == INT8) plain<Cell, int8_t>(m, row, x, first, found);
    if constexpr (FORM == BFLOAT16) plain<Cell, bf16>(m, row, x, first, found);
    if constexpr (FORM == FLOAT32) plain<Float32, float>(m, row, x, first, found);
    for (int w = 0; w < HEIGHT; w++)
        for (int v = 0; v < WIDTH; v++) {
            float one = found[w][v];
            if (m.divisor) one /= m.divisor[row + w];
            y[v * by_vector + w] = m.bias ? one + m.bias[row + w] : one;
        }
}

template <class Cell, Form FORM, int WIDTH>
static void rows_in(const Matrix& m, int64_t begin, int64_t end, const Input& x, int64_t first, float* y,
                    int64_t by_vector) {
    // One vector waits for memory, which is quickest as one stream; more of them for arithmetic, which rows side by side
    // save some of, as long as their sums fit the registers.
    constexpr int HEIGHT = WIDTH == 1    ? 1
                           : FORM < INT8 ? (LANES == 16 ? 2 : 1)
                           : WIDTH == 2  ? 4
                           : WIDTH == 4 && FORM == INT8 ? 2 : 1;
    int64_t row = begin;
    for (; row + HEIGHT <= end; row += HEIGHT)
        some<Cell, FORM, HEIGHT, WIDTH>(m, row, x, first, y + row - begin, by_vector);
    for (; row < end; row++) some<Cell, FORM, 1, WIDTH>(m, row, x, first, y + row - begin, by_vector);
}

template <class Cell, int WIDTH>
static void rows_by(const Matrix& m, int64_t begin, int64_t end, const Input& x, int64_t first, float* y,
                    int64_t by_vector) {
    const auto multiply = m.form == INT4    ? rows_in<Cell, INT4, WIDTH>
                          : m.form == INT8     ? rows_in<Cell, INT8, WIDTH>
                          : m.form == BFLOAT16 ? rows_in<Cell, BFLOAT16, WIDTH>
                                               : rows_in<Cell, FLOAT32, WIDTH>;
    multiply(m, begin, end, x, first, y, by_vector);
}

// y[v * by_vector + row - begin] for the rows [begin, end) and all vectors.
template <class Cell>
static void rows_of(const Matrix& m, int64_t begin, int64_t end, const Input& x, float* y, int64_t by_vector) {
    const int64_t most = m.form < INT8 && LANES == 16 ? 4 : 8;  // four beside two rows read less than eight beside one
    for (int64_t first = 0, width; first < x.count; first += width) {
        const int64_t left = x.count - first;
        float* to = y + first * by_vector;
        width = left >= 8 ? most : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (width == 8) rows_by<Cell, 8>(m, begin, end, x, first, to, by_vector);
        else if (width == 4) rows_by<Cell, 4>(m, begin, end, x, first, to, by_vector);
        else if (width == 2) rows_by<Cell, 2>(m, begin, end, x, first, to, by_vector);
        else rows_by<Cell, 1>(m, begin, end, x, first, to, by_vector);
    }
}

constexpr int64_t AT_ONCE = 1 << 18;  // bytes of weights that a thread takes
constexpr int64_t ROWS = 1024;        // and no more rows of them

// Rows of a matrix that are one part of the work.
static int64_t part_of(const Matrix& m) {
    const int64_t halves = m.form == FLOAT32 ? 8 : m.form == BFLOAT16 ? 4 : m.form == INT8 ? 2 : 1;
    const int64_t rows = AT_ONCE * 2 / (m.columns * halves) / 8 * 8;
    return rows < 8 ? 8 : rows > ROWS ? ROWS : rows;
}
