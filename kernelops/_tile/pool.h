/* Threads of the engine's own, which share the pieces of a call with the thread that called.
 *
 * There is one pool for a process, and every calling thread is served by it. A thread takes a piece whenever it is free,
 * and the caller takes pieces like any other: it never waits for a thread that has not begun, so that a call does no
 * worse than alone where no thread can be made, or none gets a processor because the machine is busy. Waiting is done
 * asleep, after a short look around: who spins takes the processor from the one that is waited for.
 *
 * A child that was forked has none of its parent's threads; its pool is empty and makes new ones.
 */
#ifndef KERNELOPS_POOL_H
#define KERNELOPS_POOL_H

#include <stdint.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#include <process.h>
#undef DIFFERENCE /* these are names in other headers of the engine */
#undef FAR
#undef near
#undef far
typedef SRWLOCK lock_type;
typedef CONDITION_VARIABLE bell_type;
#define LOCK_INIT SRWLOCK_INIT
#define BELL_INIT CONDITION_VARIABLE_INIT
#define lock_take(lock) AcquireSRWLockExclusive(lock)
#define lock_give(lock) ReleaseSRWLockExclusive(lock)
#define bell_wait(bell, lock) SleepConditionVariableSRW(bell, lock, INFINITE, 0)
#define bell_ring(bell) WakeConditionVariable(bell)
#define bell_ring_all(bell) WakeAllConditionVariable(bell)
#else
#include <pthread.h>
#include <signal.h>
typedef pthread_mutex_t lock_type;
typedef pthread_cond_t bell_type;
#define LOCK_INIT PTHREAD_MUTEX_INITIALIZER
#define BELL_INIT PTHREAD_COND_INITIALIZER
#define lock_take(lock) pthread_mutex_lock(lock)
#define lock_give(lock) pthread_mutex_unlock(lock)
#define bell_wait(bell, lock) pthread_cond_wait(bell, lock)
#define bell_ring(bell) pthread_cond_signal(bell)
#define bell_ring_all(bell) pthread_cond_broadcast(bell)
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define fetch_add(at, n) _InterlockedExchangeAdd64(at, n)
#define look_at(at) _InterlockedExchangeAdd64(at, 0)
#define pause_briefly() YieldProcessor()
#else
#define fetch_add(at, n) __atomic_fetch_add(at, n, __ATOMIC_ACQ_REL)
#define look_at(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#if defined(__x86_64__) || defined(__i386__)
#define pause_briefly() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define pause_briefly() __asm__ volatile("isb")
#else
#define pause_briefly() (void)0
#endif
#endif

enum { LOOKS = 1000 };            /* before a thread goes to sleep: some tens of microseconds */
enum { POOL_STACK = 2 * 1 << 20 }; /* bytes of a thread, of which the engine needs a few thousand */

/* Pieces that are shared out; lives on the stack of the caller, who leaves when nobody is inside. */
typedef struct region {
    void (*run)(const struct region *, int64_t item, int seat);
    int64_t next, last;    /* the next piece that nobody has taken */
    int64_t inside;        /* threads of the pool that are at it; changes under the lock */
    int seats, taken;      /* how many threads may come, the caller being the first; how many have */
    struct region *behind; /* of another caller */
} region;

static struct {
    lock_type lock;
    bell_type work, done;
    region *front;
    int64_t posted; /* regions so far: changes when there is work */
    int threads, asleep;
} pool = {LOCK_INIT, BELL_INIT, BELL_INIT, NULL, 0, 0, 0};

static void work_on(region *r, int seat) {
    for (int64_t item; (item = fetch_add(&r->next, 1)) < r->last;) r->run(r, item, seat);
}

/* The first region that has a piece and a seat to spare; under the lock. */
static region *find_region(void) {
    region *r = pool.front;
    while (r && (r->taken >= r->seats || look_at(&r->next) >= r->last)) r = r->behind;
    return r;
}

static void serve_pool(void) {
    lock_take(&pool.lock);
    for (;;) {
        region *const r = find_region();
        if (r) {
            const int seat = r->taken++;
            fetch_add(&r->inside, 1);
            lock_give(&pool.lock);
            work_on(r, seat);
            lock_take(&pool.lock);
            if (fetch_add(&r->inside, -1) == 1) bell_ring_all(&pool.done);
            continue;
        }
        const int64_t seen = look_at(&pool.posted);
        lock_give(&pool.lock);
        for (int k = 0; k < LOOKS && look_at(&pool.posted) == seen; k++) pause_briefly();
        lock_take(&pool.lock);
        pool.asleep++;
        while (look_at(&pool.posted) == seen) bell_wait(&pool.work, &pool.lock);
        pool.asleep--;
    }
}

#ifdef _WIN32
static unsigned __stdcall begin_thread(void *unused) {
    (void)unused;
    serve_pool();
    return 0;
}

static int make_thread(void) {
    const uintptr_t made = _beginthreadex(NULL, POOL_STACK, begin_thread, NULL, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (made) CloseHandle((HANDLE)made);
    return made != 0;
}

static int pool_open(void) { return 0; }
#else
static void *begin_thread(void *unused) {
    serve_pool();
    return unused;
}

/* Whether there is one more thread; it leaves signals to those of the caller. */
static int make_thread(void) {
    pthread_attr_t how;
    pthread_t made;
    sigset_t all, before;
    if (pthread_attr_init(&how)) return 0;
    pthread_attr_setstacksize(&how, POOL_STACK);
    pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&made, &how, begin_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&how);
    return !failed;
}

/* In a child only the thread that forked lives on, and the lock may be another's. */
static void forget_pool(void) {
    pool.lock = (lock_type)LOCK_INIT;
    pool.work = pool.done = (bell_type)BELL_INIT;
    pool.front = NULL;
    pool.threads = pool.asleep = 0;
}

/* To be called once, before the pool is used; nonzero if it could not be. */
static int pool_open(void) { return pthread_atfork(NULL, NULL, forget_pool); }
#endif

/* Calls run for the pieces next .. last-1 of a region whose other fields are 0, on at most so many threads. */
static void share_out(region *r, int threads) {
    const int64_t pieces = r->last - r->next;
    r->seats = pieces < threads ? (int)pieces : threads;
    r->taken = 1;
    lock_take(&pool.lock);
    while (pool.threads < r->seats - 1 && make_thread()) pool.threads++;
    region **end = &pool.front;
    while (*end) end = &(*end)->behind;
    *end = r;
    fetch_add(&pool.posted, 1);
    if (r->seats > pool.asleep) bell_ring_all(&pool.work);
    else
        for (int k = 1; k < r->seats; k++) bell_ring(&pool.work);
    lock_give(&pool.lock);

    work_on(r, 0);

    lock_take(&pool.lock);
    for (end = &pool.front; *end != r; end = &(*end)->behind) continue;
    *end = r->behind;
    if (look_at(&r->inside)) {
        lock_give(&pool.lock);
        for (int k = 0; k < LOOKS && look_at(&r->inside); k++) pause_briefly();
        lock_take(&pool.lock);
    }
    while (look_at(&r->inside)) bell_wait(&pool.done, &pool.lock);
    lock_give(&pool.lock);
}

#endif
