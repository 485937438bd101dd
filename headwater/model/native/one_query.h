// Attention of one new token to the keys and values in its row of a cache.
#pragma once

#include <cmath>

#include "vectors.h"

constexpr int64_t KEYS = 128;  // scored at once

// One head's softmax so far: what is mixed has weights relative to 2^highest.
struct Mixed {
    float highest, sum;
    float* out;  // [width, padded]
};

static INLINE int64_t filled(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

// LANES numbers of which only the first `left` are there.
template <class Stored>
static INLINE Vec get_some(const Stored* from, int64_t left) {
    if (left >= LANES) return get(from);
    Stored some[LANES]{};
    memcpy(some, from, left * sizeof *from);
    return get(some);
}

// A key or value as a cache keeps it: its numbers, or bytes and behind them the scale that they are to be multiplied by.
template <class Kept>
static INLINE int64_t kept_bytes(int64_t width) { return width * sizeof(Kept) + (sizeof(Kept) == 1 ? sizeof(float) : 0); }

template <class Kept>
static INLINE float scale_of(const Kept* from, int64_t width) {
    float scale = 1;
    if constexpr (sizeof(Kept) == 1) memcpy(&scale, from + width, sizeof scale);
    return scale;
}

template <class Kept>
static void keep(Kept* to, const float* from, int64_t width) {
    for (int64_t c = 0; c < width; c++) set(to + c, from[c]);
}

static void keep(int8_t* to, const float* from, int64_t width) {
    float largest = 0;
    for (int64_t c = 0; c < width; c++) largest = std::fmax(largest, std::fabs(from[c]));
    const float scale = largest > 0 ? largest / 127 : 1;
    for (int64_t c = 0; c < width; c++) to[c] = (int8_t)std::nearbyint(from[c] / scale);
    memcpy(to + width, &scale, sizeof scale);
}

template <class Kept>
static INLINE Vec product(const float* query, const Kept* key, int64_t width) {
    Vec sum{};
    int64_t c = 0;
    for (; c + LANES <= width; c += LANES) sum += load(query + c) * get(key + c);
    if (c < width) sum += load(query + c) * get_some(key + c, width - c);
    return sum;
}

// scores[h * KEYS + s] for some heads with the same keys. query [heads, filled(width)] is scaled, and so that 2^score
// is what is summed; slopes, if any, too: `behind` is how far the first key lies behind the query.
template <class Kept>
static void score(float* scores, const float* query, int64_t heads, const Kept* keys, int64_t by_token, int64_t count,
                  int64_t width, const float* slopes, int64_t behind) {
    for (int64_t s = 0; s < count; s += LANES) {
        const int64_t here = count - s < LANES ? count - s : LANES;
        Vec scales{}, places = __builtin_convertvector(iota(), Vec);
        for (int64_t at = 0; at < here; at++) scales[at] = scale_of(keys + (s + at) * by_token, width);
        for (int64_t h = 0; h < heads; h++) {
            Vec sums[LANES]{};
            for (int64_t at = 0; at < here; at++)
                sums[at] = product(query + h * filled(width), keys + (s + at) * by_token, width);
            Vec found = totals(sums) * scales;
            if (slopes) found -= splat(slopes[h] * LOG2E) * (splat((float)(behind - s)) - places);
            store(scores + h * KEYS + s, found);
        }
    }
}

// out += sum of weights times values, for VECTORS vectors of the head from column c on. Two sums each: additions wait
// for each other.
template <int VECTORS, class Kept>
static INLINE void mix(float* out, const float* weights, const Kept* values, int64_t by_token, int64_t count,
                       int64_t left) {
    Vec sums[2][VECTORS]{};
    const auto add = [&](int64_t s, Vec(&into)[VECTORS]) __attribute__((always_inline)) {
        const Kept* value = values + s * by_token;
        const Vec weight = splat(weights[s] * scale_of(value, left));
        for (int v = 0; v < VECTORS; v++)
            into[v] += weight * (VECTORS > 1 ? get(value + v * LANES) : get_some(value, left));
    };
    int64_t s = 0;
    for (; s + 2 <= count; s += 2) {
        add(s, sums[0]);
        add(s + 1, sums[1]);
    }
    if (s < count) add(s, sums[0]);
    for (int v = 0; v < VECTORS; v++) store(out + v * LANES, load(out + v * LANES) + (sums[0][v] + sums[1][v]));
}

template <class Kept>
static void attend(Mixed& m, float* scores, const Kept* values, int64_t by_token, int64_t count, int64_t width) {
    float highest = m.highest;
    for (int64_t s = 0; s < count; s++) highest = scores[s] > highest ? scores[s] : highest;
    const float shrink = std::exp2(m.highest - highest);
    m.highest = highest;
    for (int64_t s = count; s < (count + LANES - 1) / LANES * LANES; s++) scores[s] = -INFINITY;
    Vec sum{};
    for (int64_t s = 0; s < count; s += LANES) {
        const Vec part = exp2<true>(load(scores + s) - splat(highest));
        store(scores + s, part);
        sum += part;
    }
    m.sum = m.sum * shrink + total(sum);
    for (int64_t c = 0; c < filled(width); c += LANES) store(m.out + c, load(m.out + c) * splat(shrink));
    int64_t c = 0;
    for (; c + 4 * LANES <= width; c += 4 * LANES) mix<4>(m.out + c, scores, values + c, by_token, count, width - c);
    for (; c < width; c += LANES) mix<1>(m.out + c, scores, values + c, by_token, count, width - c);
}

// Pairs of a head turned by their angles.
static INLINE void turn(float* x, const float* cosines, const float* sines, int64_t dims, bool interleaved) {
    const int64_t apart = interleaved ? 1 : dims / 2, step = interleaved ? 2 : 1;
    for (int64_t pair = 0; pair < dims / 2; pair++) {
        float &a = x[pair * step], &b = x[pair * step + apart];
        const float first = a * cosines[pair] - b * sines[pair];
        b = b * cosines[pair] + a * sines[pair];
        a = first;
    }
}
