// Threads that go through the parts of one piece of work together.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

class Team {
public:
    explicit Team(int threads) : threads(threads) {}

    // Nobody goes on before all are here. What one wrote before it the others see behind it.
    void meet() {
        const unsigned round = rounds.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            taken[round % 2].store(0, std::memory_order_relaxed);  // of this part: the next one counts in the other
            rounds.store(round + 1, std::memory_order_release);
            return;
        }
        for (int turns = 0; rounds.load(std::memory_order_acquire) == round; turns++) wait(turns);
    }

    // Parts of a whole until none is left, each for whoever comes first; then all meet.
    template <class Work>
    void share(int64_t parts, Work work) {
        std::atomic<int64_t>& next = taken[rounds.load(std::memory_order_relaxed) % 2];
        for (int64_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) work(part);
        meet();
    }

    int threads;

private:
    static void wait(int turns) {
        if (turns > 4000) sched_yield();  // more threads than processors: who is waited for may need this one
#if defined(__x86_64__)
        else _mm_pause();
#endif
    }

    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> rounds{0};
    alignas(64) std::atomic<int64_t> taken[2]{};
};
