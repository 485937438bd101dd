// One new token for each of some rows, through all layers of a decoder.
#pragma once

#include <omp.h>

#include "one_query.h"
#include "products.h"
#include "team.h"

struct Layer {
    Matrix qkv, out, up, down;
    // Gains, float32. Those of what attention and feed-forward give may be null.
    const float *attention_norm, *feedforward_norm, *attention_output_norm, *feedforward_output_norm;
    void *keys, *values;  // of a cache, strided as below, its last dimension dense; bytes with their scales behind them
};

struct Step {
    const Layer* layers;
    Matrix head;
    const void* embedding;     // [vocabulary, hidden]
    const float* norm;         // gain of the last norm
    const float* frequencies;  // [rotated / 2], radians a token
    const float* slopes;       // of ALiBi [heads], or null
    const int64_t *tokens, *slots;  // [rows]
    float *logits, *workspace;      // logits [rows, vocabulary]
    int64_t rows, depth, hidden, inner, heads, kv_heads, width, rotated;
    int64_t by_row, by_head, by_token;  // of keys and values, counted in their numbers
    float eps, magnitude, score_scale, log_n;  // log_n: ln of the length from which on scores are sharpened, or 0
    int32_t stored, kept, interleaved, threads;  // the forms of the embedding, and of keys and values
};

static int64_t more(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t widest(const Step& s) { return padded(more(more(s.hidden, s.inner), s.heads * s.width)); }

// A piece of memory handed out part by part; without memory it only counts.
struct Memory {
    float* at;
    int64_t count = 0;
    float* take(int64_t floats) {
        floats = (floats + 15) / 16 * 16;
        count += floats;
        return at ? at + count - floats : nullptr;
    }
};

// What all threads write, each its part.
struct Shared {
    float *qkv, *mixed, *inner, *out;

    Shared(const Step& s, Memory& memory) {
        qkv = memory.take(s.rows * (s.heads + 2 * s.kv_heads) * s.width);
        mixed = memory.take(s.rows * widest(s));
        inner = memory.take(s.rows * widest(s));
        out = memory.take(s.rows * s.hidden);
    }
};

// What is a thread's own. All hold the same stream: adding it up again is quicker than to hand it round.
struct Own {
    float *stream, *row, *input, *part, *angles, *query, *newest, *mixed, *scores;

    Own(const Step& s, Memory& memory) {
        const int64_t group = s.heads / s.kv_heads, wide = filled(s.width);
        stream = memory.take(s.rows * padded(s.hidden));
        row = memory.take(widest(s));
        input = memory.take(Input::floats(s.rows, widest(s)));
        part = memory.take(2 * s.rows * ROWS);
        angles = memory.take(s.rows * (s.rotated + 2));
        query = memory.take(group * wide);
        newest = memory.take(2 * (wide + 1));
        mixed = memory.take(group * wide);
        scores = memory.take(group * KEYS);
    }
};

template <class Cell, class Stored, class Kept>
class Pass {
public:
    Pass(const Step& s, Team& team, const Shared& shared, const Own& own) : s(s), team(team), shared(shared), own(own) {}

    void run() {
        for (int64_t b = 0; b < s.rows; b++) begin(b);
        for (int64_t l = 0; l < s.depth; l++) {
            const Layer& layer = s.layers[l];
            multiply(layer.qkv, normed(layer.attention_norm, layer.qkv), shared.qkv, layer.qkv.rows);
            attention(layer);
            multiply(layer.out, given(shared.mixed, layer.out), shared.out, s.hidden);
            add(layer.attention_output_norm);
            gated(layer.up, normed(layer.feedforward_norm, layer.up));
            multiply(layer.down, given(shared.inner, layer.down), shared.out, s.hidden);
            add(layer.feedforward_output_norm);
        }
        multiply(s.head, normed(s.norm, s.head), s.logits, s.head.rows);
    }

private:
    float* stream(int64_t b) const { return own.stream + b * padded(s.hidden); }

    // The token's embedding, and the angles of its position.
    void begin(int64_t b) {
        const Stored* from = (const Stored*)s.embedding + s.tokens[b] * s.hidden;
        for (int64_t c = 0; c < padded(s.hidden); c++) stream(b)[c] = c < s.hidden ? value(from + c) : 0.f;
        for (int64_t pair = 0; pair < s.rotated / 2; pair++) {
            const float angle = (float)s.slots[b] * s.frequencies[pair];
            float* to = own.angles + b * s.rotated + pair;
            to[0] = std::cos(angle) * s.magnitude;
            to[s.rotated / 2] = std::sin(angle) * s.magnitude;
        }
    }

    void normalise(float* to, const float* x, const float* gain) const {
        Vec squares{};
        for (int64_t c = 0; c < padded(s.hidden); c += LANES) squares += load(x + c) * load(x + c);
        const float inverse = 1 / std::sqrt(total(squares) / s.hidden + s.eps);
        for (int64_t c = 0; c < whole(s.hidden); c += LANES) store(to + c, load(x + c) * splat(inverse) * load(gain + c));
        for (int64_t c = whole(s.hidden); c < padded(s.hidden); c++) to[c] = c < s.hidden ? x[c] * inverse * gain[c] : 0;
    }

    Input normed(const float* gain, const Matrix& m) const {
        const Input x = Input::in(own.input, s.rows, m.columns);
        for (int64_t b = 0; b < s.rows; b++) {
            normalise(own.row, stream(b), gain);
            prepare<Cell>(x, b, own.row, m);
        }
        return x;
    }

    // Of what all threads made, [rows, padded(columns)].
    Input given(float* from, const Matrix& m) const {
        const Input x = Input::in(own.input, s.rows, m.columns);
        for (int64_t b = 0; b < s.rows; b++) {
            float* row = from + b * padded(m.columns);
            memcpy(own.row, row, m.columns * sizeof(float));
            memset(own.row + m.columns, 0, (padded(m.columns) - m.columns) * sizeof(float));
            prepare<Cell>(x, b, own.row, m);
        }
        return x;
    }

    // stream += what the layer gave, by way of its norm where it has one.
    void add(const float* gain) const {
        for (int64_t b = 0; b < s.rows; b++) {
            const float* x = shared.out + b * s.hidden;
            if (gain) {
                memcpy(own.row, x, s.hidden * sizeof(float));
                memset(own.row + s.hidden, 0, (padded(s.hidden) - s.hidden) * sizeof(float));
                normalise(own.row, own.row, gain);
                x = own.row;
            }
            float* to = stream(b);
            for (int64_t c = 0; c < whole(s.hidden); c += LANES) store(to + c, load(to + c) + load(x + c));
            for (int64_t c = whole(s.hidden); c < s.hidden; c++) to[c] += x[c];
        }
    }

    void multiply(const Matrix& m, const Input& x, float* y, int64_t by_vector) const {
        const int64_t size = part_of(m);
        team.share((m.rows + size - 1) / size, [&](int64_t part) {
            const int64_t begin = part * size, end = begin + size < m.rows ? begin + size : m.rows;
            rows_of<Cell>(m, begin, end, x, y + begin, by_vector);
        });
    }

    // silu(gate) * up, from the matrix's rows [gate | up].
    void gated(const Matrix& m, const Input& x) const {
        const int64_t half = m.rows / 2, size = part_of(m), by_vector = padded(s.inner);
        team.share((half + size - 1) / size, [&](int64_t part) {
            const int64_t begin = part * size, end = begin + size < half ? begin + size : half;
            float *gate = own.part, *up = own.part + s.rows * size;
            rows_of<Cell>(m, begin, end, x, gate, size);
            rows_of<Cell>(m, half + begin, half + end, x, up, size);
            for (int64_t b = 0; b < s.rows; b++)
                swiglu(shared.inner + b * by_vector + begin, gate + b * size, up + b * size, end - begin);
        });
    }

    static void swiglu(float* to, const float* gate, const float* up, int64_t count) {
        for (int64_t c = 0; c < whole(count); c += LANES)
            store(to + c, load(gate + c) * sigmoid<true>(load(gate + c)) * load(up + c));
        for (int64_t c = whole(count); c < count; c++) to[c] = gate[c] * sigmoid(gate[c]) * up[c];
    }

    // A part is a row's query heads with the same keys, or some of them where there are too few such groups.
    void attention(const Layer& layer) const {
        const int64_t group = s.heads / s.kv_heads, all = s.rows * s.kv_heads;
        int64_t pieces = (2 * team.threads + all - 1) / all;
        pieces = pieces > group ? group : pieces;
        const int64_t heads = (group + pieces - 1) / pieces;
        team.share(all * pieces, [&](int64_t part) {
            const int64_t row = part / (s.kv_heads * pieces), k = part / pieces % s.kv_heads;
            const int64_t first = part % pieces * heads, last = first + heads < group ? first + heads : group;
            if (first < last) heads_of(layer, row, k, k * group + first, k * group + last, first == 0);
        });
    }

    void heads_of(const Layer& layer, int64_t b, int64_t k, int64_t first, int64_t last, bool keeps) const {
        const int64_t d = s.width, wide = filled(d), slot = s.slots[b], count = last - first;
        const float* qkv = shared.qkv + b * (s.heads + 2 * s.kv_heads) * d;
        float scale = s.score_scale / std::sqrt((float)d) * LOG2E;
        if (s.log_n > 0) scale *= std::fmax(1.f, std::log(slot + 1.f) / s.log_n);
        for (int64_t h = 0; h < count; h++) {
            float* query = own.query + h * wide;
            memcpy(query, qkv + (first + h) * d, d * sizeof(float));
            turned(query, b);
            for (int64_t c = 0; c < wide; c++) query[c] = c < d ? query[c] * scale : 0;
        }
        Kept *key = (Kept*)own.newest, *val = (Kept*)(own.newest + wide + 1);
        newest(key, val, qkv, b, k);
        Kept* keys = (Kept*)layer.keys + b * s.by_row + k * s.by_head;
        Kept* values = (Kept*)layer.values + b * s.by_row + k * s.by_head;
        if (keeps) memcpy(keys + slot * s.by_token, key, kept_bytes<Kept>(d));
        if (keeps) memcpy(values + slot * s.by_token, val, kept_bytes<Kept>(d));
        mix_all(keys, values, key, val, slot, count, s.slopes ? s.slopes + first : nullptr);
        for (int64_t h = 0; h < count; h++)
            memcpy(shared.mixed + b * padded(s.heads * d) + (first + h) * d, own.mixed + h * wide, d * sizeof(float));
    }

    // This token's key and value as the cache will hold them.
    void newest(Kept* key, Kept* val, const float* qkv, int64_t b, int64_t k) const {
        float* plain = own.mixed;
        memcpy(plain, qkv + (s.heads + k) * s.width, s.width * sizeof(float));
        turned(plain, b);
        keep(key, plain, s.width);
        keep(val, qkv + (s.heads + s.kv_heads + k) * s.width, s.width);
    }

    void turned(float* x, int64_t b) const {
        const float* cosines = own.angles + b * s.rotated;
        if (s.rotated) turn(x, cosines, cosines + s.rotated / 2, s.rotated, s.interleaved);
    }

    // own.mixed [heads, filled(width)]: over the keys before the slot, and the newest.
    void mix_all(const Kept* keys, const Kept* values, const Kept* key, const Kept* val, int64_t slot, int64_t heads,
                 const float* slopes) const {
        const int64_t wide = filled(s.width);
        Mixed mixed[heads];
        for (int64_t h = 0; h < heads; h++) mixed[h] = {-INFINITY, 0, own.mixed + h * wide};
        memset(own.mixed, 0, heads * wide * sizeof(float));
        for (int64_t at = 0; at <= slot; at += KEYS) {
            const int64_t count = slot - at < KEYS ? slot - at : KEYS;
            if (count == 0) break;
            score(own.scores, own.query, heads, keys + at * s.by_token, s.by_token, count, s.width, slopes, slot - at);
            for (int64_t h = 0; h < heads; h++)
                attend(mixed[h], own.scores + h * KEYS, values + at * s.by_token, s.by_token, count, s.width);
        }
        score(own.scores, own.query, heads, key, 0, 1, s.width, slopes, 0);
        for (int64_t h = 0; h < heads; h++) {
            attend(mixed[h], own.scores + h * KEYS, val, 0, 1, s.width);
            for (int64_t c = 0; c < s.width; c++) mixed[h].out[c] /= mixed[h].sum;
        }
    }

    const Step& s;
    Team& team;
    const Shared shared;
    const Own own;
};

template <class Cell, class Stored, class Kept>
static void run(const Step& s) {
    Team team(s.threads);
    Memory memory{s.workspace};
    const Shared shared(s, memory);
    const int64_t before = memory.count;
    Memory counted{nullptr};
    Own(s, counted);
#pragma omp parallel num_threads(s.threads)
    {
#pragma omp single
        team.threads = omp_get_num_threads();  // may be fewer than were asked for
        Memory mine{s.workspace + before + omp_get_thread_num() * counted.count};
        Pass<Cell, Stored, Kept>(s, team, shared, Own(s, mine)).run();
    }
}
