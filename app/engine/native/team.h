/* Threads that work through a step together, phase by phase.
 *
 * A phase is a number of tasks that whoever is free takes, one after the other. It is over when all
 * its tasks are done, not when all threads were there: a thread that another program keeps from the
 * processor holds up nobody unless it is in the midst of a task.
 */
#ifndef TEAM_H
#define TEAM_H

#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>

/* Turns of waiting before the processor is offered to others: some 20 microseconds, more than the
 * threads of a phase usually differ by. */
#define SPINS_BEFORE_YIELD 1000

typedef struct {
    _Alignas(64) atomic_int next; /* the first task that nobody has taken */
    _Alignas(64) atomic_int done; /* tasks that are finished */
} Phase;

/* What OpenMP's runtime offers to compilers: runs `body(data)` in so many threads and waits. */
typedef void (*RunParallel)(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);

typedef void (*Task)(const void *context, int index);

static inline void run_phase(Phase *phase, Task task, const void *context, int num_tasks)
{
    int mine = 0;
    for (;;) {
        int index = atomic_fetch_add_explicit(&phase->next, 1, memory_order_relaxed);
        if (index >= num_tasks)
            break;
        task(context, index);
        mine++;
    }
    if (mine)
        atomic_fetch_add_explicit(&phase->done, mine, memory_order_release);
    for (int turn = 0; atomic_load_explicit(&phase->done, memory_order_acquire) < num_tasks; turn++) {
        if (turn < SPINS_BEFORE_YIELD)
            _mm_pause();
        else
            sched_yield();
    }
}

#endif
