// Flash attention backward: probabilities are made again from the log-sum-exps. Every block of keys has one owner, who
// sums its gradients over all queries and heads; an owner's shares of the queries' gradients are summed in fixed order.
#pragma once

#include "matmul.h"
#include "packing.h"
#include "scores.h"

template <class N, class Stored>
struct Backward {
    typedef typename N::Number Number;
    const Problem& p;
    const int64_t padded;
    const float scale;
    Limits limits;
    Number *queries, *gradients, *by_query;  // by_query: score gradients [QUERIES, KEYS]
    float *keys_across, *values_across, *keys, *queries_down, *gradients_down;
    float *products, *slants;                // q k and do v, [QUERIES, KEYS]
    float *probabilities, *score_gradients;  // cells [QUERIES / GROUP, KEYS]
    float *normalizers, *shifts;             // in units of log 2; sum of do * out
    float *query_gradients, *key_gradients, *value_gradients;

    Backward(const Problem& p, Arena& arena)
        : p(p), padded(rounded(p.length, QUERIES)), scale(scale_of(p)), limits(arena, padded) {
        const int64_t numbers = padded * p.width, cells = numbers / N::GROUP, block = QUERIES * KEYS;
        queries = arena.take<Number>(numbers);
        gradients = arena.take<Number>(numbers);
        by_query = arena.take<Number>(block);
        keys_across = arena.take<float>(cells);
        values_across = arena.take<float>(cells);
        keys = arena.take<float>(cells);
        queries_down = arena.take<float>(cells);
        gradients_down = arena.take<float>(cells);
        products = arena.take<float>(block);
        slants = arena.take<float>(block);
        probabilities = arena.take<float>(block / N::GROUP);
        score_gradients = arena.take<float>(block / N::GROUP);
        normalizers = arena.take<float>(padded);
        shifts = arena.take<float>(padded);
        query_gradients = arena.take<float>(numbers);
        key_gradients = arena.take<float>(numbers);
        value_gradients = arena.take<float>(numbers);
    }

    // One key/value head: every `parts`th block of keys from `part` on. shares: [B,H,parts,T,d] or null with one part.
    void run(int64_t row, int64_t kv_head, int64_t part, int64_t parts, float* shares) {
        limits.fill(p, row, padded);
        copy_rows<Stored>(queries, p, p.value, row, kv_head, 0, padded);  // where queries will stand
        across<N>(values_across, queries, padded, p.width);
        copy_turned<Stored>(queries, p, p.key, row, kv_head, 0, padded);
        across<N>(keys_across, queries, padded, p.width);
        down<N>(keys, queries, padded, p.width);
        std::fill(key_gradients, key_gradients + padded * p.width, 0.f);
        std::fill(value_gradients, value_gradients + padded * p.width, 0.f);
        const int64_t group = p.heads / p.kv_heads;
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            prepare(row, head);
            for (int64_t key = part * KEYS; key < p.length; key += parts * KEYS) own(head, key);
            if (shares) {
                float* share = shares + ((row * p.heads + head) * parts + part) * p.length * p.width;
                memcpy(share, query_gradients, p.length * p.width * sizeof(float));
            } else {
                write(p.query_gradient, row, head, query_gradients, 0, p.length, 1 / std::sqrt((float)p.width), true);
            }
        }
        for (int64_t key = part * KEYS; key < p.length; key += parts * KEYS) {
            const int64_t end = std::min<int64_t>(key + KEYS, p.length);
            write(p.key_gradient, row, kv_head, key_gradients, key, end, 1 / std::sqrt((float)p.width), true);
            write(p.value_gradient, row, kv_head, value_gradients, key, end, 1.f, false);
        }
    }

    void write(const Heads& to, int64_t row, int64_t head, const float* from, int64_t begin, int64_t end, float factor,
               bool turned) {
        alignas(64) float numbers[WIDEST];
        for (int64_t token = begin; token < end; token++) {
            const float* sums = from + token * p.width;
            for (int64_t x = 0; x < p.width; x += LANES) store(numbers + x, load(sums + x) * splat(factor));
            write_token<Stored>(p, to, row, head, token, numbers, turned);
        }
    }

    // One head's queries and upstream gradients, some at a time so that they are read from memory once.
    void prepare(int64_t row, int64_t head) {
        constexpr int64_t SOME = 16;
        for (int64_t begin = 0; begin < padded; begin += SOME) {
            const int64_t at = begin * p.width;
            copy_turned<Stored>(queries + at, p, p.query, row, head, begin, SOME);
            copy_rows<Stored>(gradients + at, p, p.out_gradient, row, head, begin, SOME);
            down<N>(queries_down + at / N::GROUP, queries + at, SOME, p.width);
            down<N>(gradients_down + at / N::GROUP, gradients + at, SOME, p.width);
            for (int64_t token = begin; token < begin + SOME; token++) sum_up(row, head, token);
        }
        std::fill(query_gradients, query_gradients + padded * p.width, 0.f);
    }

    void sum_up(int64_t row, int64_t head, int64_t token) {
        normalizers[token] = INFINITY;  // padding: no probability
        shifts[token] = 0.f;
        if (token >= p.length) return;
        normalizers[token] = p.normalizer[(row * p.heads + head) * p.length + token] * LOG2E;
        const Stored* out = p.out.at<const Stored>(row, head, token);
        const Number* gradient = gradients + token * p.width;
        Vec sum{};
        for (int64_t x = 0; x < p.width; x += LANES) sum += get(out + x) * get(gradient + x);
        shifts[token] = total(sum);
    }

    // All queries' part in the gradients of keys [key, key + KEYS).
    void own(int64_t head, int64_t key) {
        for (int64_t begin = 0; begin < p.length; begin += QUERIES) {
            const Span span = limits.span(begin, QUERIES);
            if (span.end <= key || span.first >= key + KEYS) continue;
            if (span.all_see(key, key + KEYS)) {
                pair(span, head, begin, QUERIES, key, key + KEYS);
                continue;
            }
            for (int64_t strip = begin; strip < std::min<int64_t>(begin + QUERIES, p.length); strip += STRIP) {
                const Span narrow = limits.span(strip, STRIP);
                const int64_t first = std::max(narrow.first / GRAIN * GRAIN, key);
                const int64_t end = std::min(rounded(narrow.end, GRAIN), key + KEYS);
                if (first < end) pair(narrow, head, strip, STRIP, first, end);
            }
        }
    }

    // What queries [query, query + count) and keys [key, end) give each other.
    void pair(const Span& span, int64_t head, int64_t query, int64_t count, int64_t key, int64_t end) {
        const int64_t width = p.width, cells = width / N::GROUP, reach = end - key;
        const int64_t place = key / KEYS * KEYS * cells + key % KEYS;
        multiply<N, false>(count, reach, cells, {(float*)(queries + query * width), cells, 1},
                           {keys_across + place, KEYS}, products, KEYS);
        multiply<N, false>(count, reach, cells, {(float*)(gradients + query * width), cells, 1},
                           {values_across + place, KEYS}, slants, KEYS);
        adjust(products, KEYS, p, limits, span, head, query, count, key, reach);
        soften(query, count, reach);
        multiply<N, true>(reach, width, count / N::GROUP, {probabilities, 1, KEYS},
                          {gradients_down + query / N::GROUP * width, width}, value_gradients + key * width, width);
        multiply<N, true>(reach, width, count / N::GROUP, {score_gradients, 1, KEYS},
                          {queries_down + query / N::GROUP * width, width}, key_gradients + key * width, width);
        multiply<N, true>(count, width, reach / N::GROUP, {(float*)by_query, KEYS / N::GROUP, 1},
                          {keys + key / N::GROUP * width, width}, query_gradients + query * width, width);
    }

    // Probabilities p = exp(score - normalizer) and score gradients p (do v - shift).
    void soften(int64_t query, int64_t count, int64_t reach) {
        for (int64_t at = 0; at < count; at += N::GROUP)
            for (int64_t x = 0; x < reach; x += LANES) {
                Vec shares[N::GROUP], slopes[N::GROUP];
                for (int64_t row = 0; row < N::GROUP; row++) {
                    const int64_t here = query + at + row, place = (at + row) * KEYS + x;
                    shares[row] = exp2<N::EXACT>(load(products + place) * splat(scale) - splat(normalizers[here]));
                    slopes[row] = shares[row] * (load(slants + place) - splat(shifts[here]));
                    put(by_query + place, slopes[row]);
                }
                N::interleave(probabilities + at / N::GROUP * KEYS + x, shares);
                N::interleave(score_gradients + at / N::GROUP * KEYS + x, slopes);
            }
    }
};
