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
    """Bytes in use after count calls that were not before, once all that is kept for good has been made."""
    tracemalloc.start()
    try:
        for k in range(before):
            call(k)
        start = held()
        for k in range(before, before + count):
            call(k)
        return held() - start
    finally:
        tracemalloc.stop()
