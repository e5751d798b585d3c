"""The number of threads, with /proc and /sys replaced by folders of the test's own."""

from __future__ import annotations

import os

import pytest

from kernelops.engines import threads


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 CPUs without control groups and without OMP_NUM_THREADS; write(path, text) adds a file to it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "PROC_CGROUP", tmp_path / "proc")
    monkeypatch.setattr(threads, "SYS_CGROUP", tmp_path / "sys")

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


def test_affinity_alone(machine):
    assert threads.thread_reasons() == {"affinity": 64} and threads.thread_count() == 64


def test_without_affinity_all_processors_count(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, want in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert threads.thread_count() == want


@pytest.mark.parametrize(("text", "want"), [("3", 3), (" 3 ", 3), ("4,2", 4), ("99", 64), ("1", 1)])
def test_omp_num_threads(machine, monkeypatch, text, want):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.thread_count() == want
    assert threads.thread_reasons()["OMP_NUM_THREADS"] == int(text.split(",")[0])


@pytest.mark.parametrize("text", ["", "0", "-2", "many", "2.5", "1e3", ",4", "9" * 5000, "٣", "²"])
def test_an_invalid_omp_num_threads_is_ignored(machine, monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.thread_reasons() == {"affinity": 64}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("200000 100000\n", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("max 100000", None),
        ("", None),
        ("junk", None),
    ],
)
def test_version_2(machine, text, want):
    machine("proc", "0::/app/part\n")
    machine("sys/app/part/cpu.max", text)
    assert threads.thread_reasons().get("cgroup quota") == want
    assert threads.thread_count() == (want or 64)


def test_the_least_quota_on_the_way_to_the_root_counts(machine):
    machine("proc", "0::/a/b/c\n")
    machine("sys/a/b/c/cpu.max", "max 100000")
    machine("sys/a/b/cpu.max", "800000 100000")
    machine("sys/a/cpu.max", "500000 100000")
    assert threads.thread_reasons()["cgroup quota"] == 5


def test_a_container_that_sees_only_its_own_group(machine):
    machine("proc", "0::/../host/path\n")
    machine("sys/cpu.max", "300000 100000")
    assert threads.thread_reasons()["cgroup quota"] == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "want"), [("250000", 3), ("-1", None)])
def test_version_1(machine, mount, quota, want):
    machine("proc", "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n")
    machine(f"sys/{mount}/docker/1/cpu.cfs_quota_us", quota)
    machine(f"sys/{mount}/docker/1/cpu.cfs_period_us", "100000\n")
    assert threads.thread_reasons().get("cgroup quota") == want


def test_all_three_at_once(machine, monkeypatch):
    machine("proc", "0::/\n")
    machine("sys/cpu.max", "1600000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "24")
    assert threads.thread_reasons() == {"OMP_NUM_THREADS": 24, "affinity": 64, "cgroup quota": 16}
    assert threads.thread_count() == 16


def test_this_machine():
    assert 1 <= threads.thread_count() <= (os.cpu_count() or 1)
