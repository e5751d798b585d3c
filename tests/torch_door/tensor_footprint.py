"""Bytes of tensors that a call has at most, as torch's own allocator tells the profiler."""

from itertools import accumulate

from footprint import peak
from torch_dense import torch


def peak_of_all(call):
    """At most as many bytes as a call has at a time: of numpy's arrays, and of tensors."""
    arrays = peak(call)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        kept = call()
    del kept
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return arrays + max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), default=0)
