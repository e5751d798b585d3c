"""Both columns of the page for KeOps' users are executed, and give the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import kernelops.torch  # noqa: E402  # after torch
from kernelops.compat import as_pykeops  # noqa: E402

PAGE = Path(__file__).parent.parent.parent / "docs" / "coming_from_keops.md"
LINES = re.findall(r"^\| `(.*?)` \| `(.*?)` \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def results(door):
    """What each line of the page gives with the names of a door, by its text."""
    torch.manual_seed(0)
    names = {name: getattr(door, name) for name in door.__all__} | {"torch": torch}
    names |= {"x": torch.rand(5, 3), "y": torch.rand(7, 3), "b": torch.rand(7, 2)}
    names |= {"s": torch.rand(5, 2), "c": torch.rand(1)}
    names["x_i"] = door.LazyTensor(names["x"][:, None, :])
    names["y_j"] = door.LazyTensor(names["y"][None, :, :])
    names["K_xx"] = (-door.Vi(names["x"]).sqdist(door.Vj(names["x"]))).exp()
    return lambda line: eval(line.replace("\\|", "|"), dict(names))


def test_the_lines_are_found():
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| KeOps"))]
    assert len(LINES) == len(rows) > 25


@pytest.mark.filterwarnings("ignore:a LazyTensor is always true")
def test_both_columns_give_the_same():
    here = results(kernelops.torch)
    with as_pykeops() as pykeops:
        import pykeops.torch

        there = results(pykeops.torch)
        for left, right in LINES:
            found, wanted = here(right), there(left)
            assert isinstance(found, torch.Tensor) and found.shape == wanted.shape, (left, right)
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6, msg=lambda m, line=right: f"{line}: {m}")
