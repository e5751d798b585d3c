"""Bytes as tracemalloc sees them: at most during a call, and kept after many."""

import gc
import tracemalloc


def peak(call):
    """Bytes that a call has at most, with all that it returns."""
    call()  # what is compiled is kept
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def held():
    """Bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def growth(call, before, count):
    """Bytes in use after count calls that were not before, once all that is kept for good has been made.

    Where it grows it is measured again, and the less counts: a table of the interpreter, or of the formulas that are
    alive, takes room for many at once, when its time has come.
    """
    tracemalloc.start()
    try:
        for k in range(before):
            call(k)
        found, k = [], before
        while len(found) < 2 and min(found, default=1) > 0:
            start = held()
            for n in range(count):
                call(k + n)
            k += count
            found.append(held() - start)
        return min(found)
    finally:
        tracemalloc.stop()
