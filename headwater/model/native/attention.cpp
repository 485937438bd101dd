// Attention over intervals, forward and backward, with a plain C interface. See headwater/model/interval_attention.py.

#include <cstdlib>
#include <omp.h>

#include "backward.h"
#include "forward.h"

// Tasks that are enough for `threads` to end at about the same time.
static int64_t parts_of(const Problem& p, int64_t block) {
    const int64_t heads = p.rows * p.kv_heads, wanted = 4 * (int64_t)p.threads;
    if (p.threads == 1 || heads >= wanted || heads % p.threads == 0) return 1;
    return std::clamp<int64_t>((wanted + heads - 1) / heads, 1, rounded(p.length, block) / block);
}

// Memory that a thread keeps for its next call: pages fresh from the system cost a tenth of a small call's time.
class Memory {
    void* memory = nullptr;
    int64_t size = 0;

public:
    ~Memory() { free(memory); }

    char* of(int64_t bytes) {
        if (bytes > size) {
            free(memory);
            memory = aligned_alloc(64, rounded(bytes, 64));
            size = memory ? bytes : 0;
        }
        return (char*)memory;
    }
};

template <template <class, class> class Pass, class N, class Stored, class... More>
static bool each(const Problem& p, int64_t parts, More... more) {
    Arena count;
    Pass<N, Stored>(p, count);
    const int64_t size = count.used;
    thread_local Memory kept;
    char* memory = kept.of(size * p.threads);
    if (!memory) return false;
#pragma omp parallel num_threads(p.threads)
    {
        Arena arena{memory + size * omp_get_thread_num()};
        Pass<N, Stored> pass(p, arena);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < p.rows * p.kv_heads * parts; task++)
            pass.run(task / parts / p.kv_heads, task / parts % p.kv_heads, task % parts, parts, more...);
    }
    return true;
}

template <class N, class Stored>
static bool forward(const Problem& p) {
    return each<Forward, N, Stored>(p, parts_of(p, STRIP));
}

// The query gradients of several owners, summed in their order.
template <class Stored>
static void gather(const Problem& p, int64_t parts, const float* shares) {
    const float scale = 1 / std::sqrt((float)p.width);
#pragma omp parallel for num_threads(p.threads)
    for (int64_t place = 0; place < p.rows * p.heads * p.length; place++) {
        const int64_t head = place / p.length, at = place % p.length;
        const float* from = shares + (head * parts * p.length + at) * p.width;
        alignas(64) float numbers[WIDEST];
        for (int64_t x = 0; x < p.width; x += LANES) {
            Vec sum{};
            for (int64_t part = 0; part < parts; part++) sum += load(from + part * p.length * p.width + x);
            store(numbers + x, sum * splat(scale));
        }
        write_token<Stored>(p, p.query_gradient, head / p.heads, head % p.heads, at, numbers, true);
    }
}

template <class N, class Stored>
static bool backward(const Problem& p) {
    const int64_t parts = parts_of(p, KEYS);
    if (parts == 1) return each<Backward, N, Stored>(p, 1, (float*)nullptr);
    thread_local Memory kept;
    float* shares = (float*)kept.of(p.rows * p.heads * parts * p.length * p.width * (int64_t)sizeof(float));
    const bool done = shares && each<Backward, N, Stored>(p, parts, shares);
    if (done) gather<Stored>(p, parts, shares);
    return done;
}

#if defined(__AVX512BF16__)
typedef BFloat16 Half;
#else
typedef Float32 Half;
#endif

extern "C" {
// Each returns whether there was memory enough.
int interval_attention_forward_float32(const Problem* p) { return forward<Float32, float>(*p); }
int interval_attention_forward_bfloat16(const Problem* p) { return forward<Half, bf16>(*p); }
int interval_attention_backward_float32(const Problem* p) { return backward<Float32, float>(*p); }
int interval_attention_backward_bfloat16(const Problem* p) { return backward<Half, bf16>(*p); }
}
