"""BLAS and LAPACK on blocks of a matrix, in place: SciPy's own functions copy a block that is not in one piece.

They are the functions that scipy.linalg.cython_blas and cython_lapack offer to compiled code, called by their addresses
through ctypes, which lets other Python threads run meanwhile. All matrices are in Fortran order, and all blocks are
given by the address of their first entry; `ld` is the distance between the columns of a matrix, in entries.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from scipy.linalg import cython_blas, cython_lapack

ARGUMENTS = {  # routine -> its arguments, all by address: letters (c), whole numbers (i), reals and matrices (r)
    "gemm": "cciiirririrri",
    "syrk": "cciirrirri",
    "trsm": "cccciirriri",
    "potrf": "cirii",
}
_LETTERS = {letter: ctypes.create_string_buffer(letter.encode()) for letter in "LNRT"}


class Blocks:
    """The routines for matrices of float64 ("d") or float32 ("f"), whose columns are `ld` entries apart."""

    def __init__(self, char: str, ld: int) -> None:
        real = {"d": ctypes.c_double, "f": ctypes.c_float}[char]
        self._calls = _routines(char)
        self._kept = [real(1.0), real(-1.0), ctypes.c_int(ld)]
        self._one, self._minus, self._ld = map(ctypes.addressof, self._kept)
        self._l, self._n, self._r, self._t = (ctypes.addressof(_LETTERS[letter]) for letter in "LNRT")

    def subtract_product(self, A: int, B: int, C: int, m: int, n: int, k: int) -> None:
        """C -= A B^T for A (m, k), B (n, k) and C (m, n)."""
        sizes = _integers(m, n, k)
        self._calls["gemm"](self._n, self._t, *sizes, self._minus, A, self._ld, B, self._ld, self._one, C, self._ld)

    def subtract_square(self, A: int, C: int, n: int, k: int) -> None:
        """C -= A A^T for A (n, k) and the lower triangle of C (n, n)."""
        self._calls["syrk"](self._l, self._n, *_integers(n, k), self._minus, A, self._ld, self._one, C, self._ld)

    def divide(self, L: int, B: int, m: int, n: int) -> None:
        """Replace B by B L^-T, for the lower triangle L (n, n) and B (m, n)."""
        self._calls["trsm"](self._r, self._l, self._t, self._n, *_integers(m, n), self._one, L, self._ld, B, self._ld)

    def solve(self, L: int, B: int, n: int, k: int, transposed: bool) -> None:
        """Replace B (n, k) by L^-1 B, or L^-T B, for the lower triangle L (n, n)."""
        trans = self._t if transposed else self._n
        sizes = _integers(n, k)
        self._calls["trsm"](self._l, self._l, trans, self._n, *sizes, self._one, L, self._ld, B, self._ld)

    def factor(self, A: int, n: int) -> bool:
        """Replace the lower triangle of A (n, n) by its Cholesky factor; False if there is none."""
        info = ctypes.c_int(0)
        self._calls["potrf"](self._l, *_integers(n), A, self._ld, ctypes.addressof(info))
        return info.value == 0


@cache
def available() -> bool:
    """Whether this SciPy offers the routines with the arguments that are wanted, whole numbers being of 32 bits."""
    try:
        return all(_routines(char) for char in "df")
    except (AttributeError, KeyError, ValueError):
        return False


@cache
def _routines(char: str) -> dict[str, Callable[..., None]]:
    letter = {"d": "d", "f": "s"}[char]
    return {name: _routine(f"{letter}{name}", arguments) for name, arguments in ARGUMENTS.items()}


def _routine(name: str, arguments: str) -> Callable[..., None]:
    """A routine of Fortran as a function of addresses."""
    capsules = cython_lapack.__pyx_capi__ if name.endswith("potrf") else cython_blas.__pyx_capi__
    capsule = capsules[name]
    signature = _name_of(capsule)
    kinds = re.fullmatch(rb"void \((.*)\)", signature)
    found = "" if kinds is None else "".join(_kind(kind.strip()) for kind in kinds[1].split(b","))
    if found != arguments:
        raise ValueError(f"{name}: wanted the arguments {arguments}, got {signature.decode()}")
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arguments))
    return kind(_pointer_of(capsule, signature))


def _kind(declared: bytes) -> str:
    """The kind of an argument, of which Cython writes the type: its own name for a real number, of any module."""
    if declared in (b"char *", b"int *"):
        return chr(declared[0])
    return "r" if re.fullmatch(rb"(float|double|__pyx_t_\w+_[sd]) \*", declared) else "?"


def _integers(*values: int) -> list[Any]:
    return [ctypes.byref(ctypes.c_int(value)) for value in values]


_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
