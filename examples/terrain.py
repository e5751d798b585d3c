"""Rebuild a terrain from scattered heights by a kernel solve, and draw it.

The terrain is the sample file jacksboro_fault_dem.npz of Matplotlib: 344 x 403 heights of a stretch of the Cumberland
Mountains, about 30 km wide. Of these, 10,000 scattered ones are kept. The heights h at the places x are taken for a
Gaussian process with a Matern 3/2 covariance and white noise, so that the best guess at a place y is

    mean(h) + sum_j k(y, x_j) a_j,    (alpha I + K) a = h - mean(h),    K[i, j] = k(x_i, x_j),

one KernelSolve and one Genred. All heights that were not kept judge it, and linear interpolation beside it.

With --full, four fifths of all 138,632 heights are kept. The kernel then reaches a small part of the terrain, and
truncate= leaves out of every sum what cannot count: of the twelve thousand million entries of K one in seven is left.
"""

from __future__ import annotations

import argparse
import sys
import time
from io import BytesIO
from typing import NamedTuple

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.colors import LightSource, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from PIL import Image  # comes with Matplotlib
from scipy.interpolate import griddata

from kernelops.numpy import Genred, KernelSolve

KM_PER_DEGREE = 111.2
MATERN = "(1 + g*Norm2(x-y)) * Exp(-g*Norm2(x-y)) * a"
ALIASES = ["x = Vi(2)", "y = Vj(2)", "a = Vj(1)", "g = Pm(1)"]
# Length scales, in mean distances between samples, and alpha, which grows with them.
CANDIDATES = [(1.0, 0.005), (1.5, 0.01), (2.0, 0.025), (3.0, 0.05)]
FULL_CANDIDATES = [(2.0, 0.001), (3.0, 0.001), (4.0, 0.001), (3.0, 0.01)]
TRUNCATE, FULL_EPS = 1e-3, 1e-5
MANY = 50_000  # samples that are drawn as a grid with holes, no longer as dots
TINTS = ["#3f6f52", "#7d9f64", "#c9c58a", "#dcb27c", "#b07d57", "#8c6656", "#d9d3cd", "#ffffff"]  # valley to summit


class Terrain(NamedTuple):
    """Heights in metres on a grid of places in kilometres; row 0 is the northern edge."""

    heights: np.ndarray
    east: float  # distance between neighbours in a row
    north: float  # and in a column

    @property
    def places(self):
        """East and south of the north-west corner, one row a height."""
        row, column = np.indices(self.heights.shape).reshape(2, -1)
        return np.column_stack([column * self.east, row * self.north]).astype(np.float32)

    @property
    def extent(self):
        rows, columns = self.heights.shape
        return (0, columns * self.east, 0, rows * self.north)

    @property
    def area(self):
        return self.extent[1] * self.extent[3]


class Fit(NamedTuple):
    """Coefficients of a kernel solve and what is needed to predict with them."""

    places: np.ndarray
    coefficients: np.ndarray
    mean: np.float32
    g: np.ndarray

    def __call__(self, places):
        """Heights at other places."""
        return self.mean + Genred(MATERN, ALIASES, axis=1)(places, self.places, self.coefficients, self.g)[:, 0]


def load():
    """The terrain of the sample file."""
    with get_sample_data("jacksboro_fault_dem.npz") as file:
        heights, latitude = file["elevation"], np.radians((file["ymin"] + file["ymax"]) / 2)
        east = KM_PER_DEGREE * file["dx"] * np.cos(latitude)
        return Terrain(heights.astype(np.float32), float(east), float(KM_PER_DEGREE * file["dy"]))


def fit(places, heights, length, alpha, **options):
    """The Fit, and the Solution that tells how the solve went."""
    mean, g = heights.mean(), np.array([3**0.5 / length], dtype=np.float32)
    solver = KernelSolve(MATERN, ALIASES, "a", axis=1)
    a, solution = solver(places, places, (heights - mean)[:, None], g, alpha=alpha, return_solution=True, **options)
    return Fit(places, a, mean, g), solution


def rmse(found, truth):
    return float(np.sqrt(np.mean((found - truth) ** 2, dtype=np.float64)))


def choose(places, heights, spacing, candidates, **options):
    """The length scale and alpha of the smallest error on a tenth of the samples in one quarter of the terrain."""
    quarter = np.flatnonzero((places <= np.median(places, axis=0)).all(axis=1))
    held = np.arange(len(quarter)) % 10 == 0
    train, test = quarter[~held], quarter[held]
    print(f"choice of parameters: {len(train):,} samples of one quarter, {len(test):,} more to judge\n")
    print("   length scale     alpha    products      RMSE")
    errors = []
    for multiple, alpha in candidates:
        model, solution = fit(places[train], heights[train], multiple * spacing, alpha, **options)
        errors.append(rmse(model(places[test]), heights[test]))
        products = sum(solution.products.values())
        print(f"   {multiple * spacing:9.2f} km {alpha:9g} {products:11} {errors[-1]:7.1f} m")
    multiple, alpha = candidates[int(np.argmin(errors))]
    return multiple * spacing, alpha


def interpolate(places, heights, wanted):
    """Linear interpolation in a triangulation; outside of the hull the nearest sample."""
    found = griddata(places, heights, wanted, method="linear")
    outside = np.isnan(found)
    found[outside] = griddata(places, heights, wanted[outside], method="nearest")
    return found


def timed(function, *args, **options):
    """What the function returns, and how many seconds it took."""
    start = time.perf_counter()
    result = function(*args, **options)
    return result, time.perf_counter() - start


def few(terrain, sampled, held, samples):
    """RMSE of a fit of few of the samples, whose parameters are chosen in the same way."""
    truth, places = terrain.heights.ravel(), terrain.places
    known = places[sampled[:samples]], truth[sampled[:samples]]
    print(f"\n{samples:,} of the samples, for comparison; ", end="")
    length, alpha = choose(*known, (terrain.area / samples) ** 0.5, CANDIDATES)
    return rmse(fit(*known, length, alpha)[0](places[held]), truth[held])


def memory():
    """The most bytes that were ever in use; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def draw(terrain, sampled, rebuilt, titles, output):
    """Terrain, samples, reconstruction and error, as one picture."""
    heights = terrain.heights
    tints = LinearSegmentedColormap.from_list("tints", TINTS)
    span = Normalize(*np.percentile(heights, [0.5, 99.8]))
    error = rebuilt - heights
    worst = float(np.ceil(np.percentile(np.abs(error), 99) / 10) * 10)

    figure = Figure(figsize=(11.4, 11.2), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    placed = {"extent": terrain.extent, "interpolation": "antialiased"}
    for panel, surface in ((panels[0, 0], heights), (panels[1, 0], rebuilt)):
        panel.imshow(shaded(terrain, surface, tints, span), **placed)
    east, south = terrain.places[sampled].T
    if len(sampled) < MANY:
        dots = panels[0, 1].scatter(
            east + terrain.east / 2,
            terrain.extent[3] - south - terrain.north / 2,
            c=heights.flat[sampled],
            s=min(12.0, 35_000 / len(sampled)),
            cmap=tints,
            norm=span,
            linewidths=0,
        )
    else:
        known = np.full(heights.shape, np.nan)
        known.flat[sampled] = heights.flat[sampled]
        dots = panels[0, 1].imshow(known, extent=terrain.extent, interpolation="nearest", cmap=tints, norm=span)
    panels[0, 1].set(facecolor="#20252b", aspect="equal")
    errors = panels[1, 1].imshow(error, cmap="RdBu_r", vmin=-worst, vmax=worst, **placed)
    for panel, title in zip(panels.flat, titles, strict=True):
        panel.set_title(title, fontsize=12)
        panel.tick_params(labelsize=9)
    for panel in panels[1]:
        panel.set_xlabel("km east")
    for panel in panels[:, 0]:
        panel.set_ylabel("km north")
    for row, mapped, label in ((panels[0], dots, "height, m"), (panels[1], errors, "reconstruction - terrain, m")):
        figure.colorbar(mapped, ax=row, label=label, extend="both", shrink=0.9, pad=0.015, aspect=28)
    save(figure, output)


def shaded(terrain, surface, tints, span):
    """Colours of the heights, lit from the north-west."""
    light = LightSource(azdeg=315, altdeg=40)
    return light.shade(
        surface,
        cmap=tints,
        norm=span,
        blend_mode="soft",
        vert_exag=2.5,
        dx=1000 * terrain.east,
        dy=1000 * terrain.north,
    )


def save(figure, output):
    """Write a PNG of 256 dithered colours, a third of the size of one of all colours."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    picture = Image.open(drawn).convert("RGB")
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(output, format="png", optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000, help="heights that are kept")
    parser.add_argument("--full", action="store_true", help="keep four fifths of all heights, with a truncated kernel")
    parser.add_argument("--output", help="the picture: terrain.png, or terrain_full.png")
    options = parser.parse_args()
    output = options.output or ("terrain_full.png" if options.full else "terrain.png")
    candidates, how = CANDIDATES, {}
    if options.full:
        candidates, how = FULL_CANDIDATES, {"truncate": TRUNCATE, "eps": FULL_EPS}

    terrain = load()
    truth, places = terrain.heights.ravel(), terrain.places
    count = truth.size - truth.size // 5 if options.full else options.samples
    sampled = np.random.default_rng(0).choice(truth.size, count, replace=False)
    held = np.delete(np.arange(truth.size), sampled)
    known = places[sampled], truth[sampled]
    print("{} x {} heights".format(*terrain.heights.shape), f"of which {len(sampled):,} are known\n", sep=", ")

    length, alpha = choose(*known, (terrain.area / len(sampled)) ** 0.5, candidates, **how)
    (model, solution), solving = timed(fit, *known, length, alpha, **how)
    rebuilt, predicting = timed(model, places)
    linear, interpolating = timed(interpolate, *known, places)
    ours, theirs = rmse(rebuilt[held], truth[held]), rmse(linear[held], truth[held])
    products = sum(solution.products.values())

    print(f"\n{solution}\n")
    print(f"{'':24}RMSE on {len(held):,} held-out heights   products   seconds")
    print(f"{'KernelSolve':24}{'':33}{products:11}{solving:10.1f}")
    print(f"{'Genred on the grid':24}{ours:31.2f} m{1:11}{predicting:10.1f}")
    print(f"{'griddata, linear':24}{theirs:31.2f} m{'':11}{interpolating:10.1f}")
    if options.full:
        print(f"{f'{options.samples:,} of the samples':24}{few(terrain, sampled, held, options.samples):31.2f} m")
    print(f"\n{memory() / 2**20:,.0f} MB at the peak of memory")

    titles = (
        f"Terrain: {truth.size:,} heights",
        f"{len(sampled):,} samples",
        f"Kernel solve: {products} products of {len(sampled):,} x {len(sampled):,}, {solving:.1f} s",
        f"Error: RMSE {ours:.1f} m (linear interpolation {theirs:.1f} m)",
    )
    draw(terrain, sampled, rebuilt.reshape(terrain.heights.shape), titles, output)
    print(f"{output} shows the terrain, the samples, the reconstruction and the error")
    return 0 if solution.converged else 1


if __name__ == "__main__":
    raise SystemExit(main())
