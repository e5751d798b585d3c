"""The names pykeops and keopscore in Python's table of modules: put in, and taken out again."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

from . import modules
from .truthy import forget_warning

ROOTS = ("pykeops", "keopscore")
TESTS = "pykeops.test"  # the one package that is taken from an installed pykeops
LOG = logging.getLogger("kernelops.compat")
_lock = RLock()


class _Loader(Loader):
    """Fills a module from the table of modules.py."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__file__ = modules.__file__  # an ImportError shows it
        module.__path__ = []
        module.__dict__.update(modules.MODULES[name]())

        def missing(attribute: str) -> Any:
            """A submodule or a value that is found when it is first asked for."""
            if f"{name}.{attribute}" in modules.MODULES:
                return import_module(f"{name}.{attribute}")
            if found := modules.COMPUTED.get(f"{name}.{attribute}"):
                return found()
            raise AttributeError(f"{name}.{attribute} is not in kernelops.compat, which stands in for pykeops")

        module.__getattr__ = missing  # type: ignore[method-assign]


class _Finder(MetaPathFinder):
    """Finds the modules of modules.py before anything that is installed under their names."""

    loader = _Loader()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == TESTS:
            return _find_tests()
        if name not in modules.MODULES:
            return None
        return ModuleSpec(name, self.loader, origin="kernelops.compat", is_package=True)


def _find_tests() -> ModuleSpec | None:
    """KeOps' own tests where they are installed, so that pytest can run them."""
    installed = PathFinder.find_spec("pykeops")
    return installed and PathFinder.find_spec(TESTS, installed.submodule_search_locations)


class _Refusal(MetaPathFinder):
    """Stands last, and says of modules of pykeops that nobody has found that they are not provided."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ROOTS:
            raise ModuleNotFoundError(f"{name} is not in kernelops.compat, which stands in for pykeops", name=name)
        return None


_FINDERS = (_Finder(), _Refusal())


def is_installed() -> bool:
    """Whether ``import pykeops`` gives kernelops in this process.

    Returns
    -------
    bool

    Examples
    --------
    >>> from kernelops.compat import is_installed
    >>> is_installed()
    False
    """
    return _FINDERS[0] in sys.meta_path


def install_as_pykeops() -> ModuleType:
    """Have ``import pykeops`` and ``import keopscore`` give kernelops, until :func:`uninstall`.

    It belongs into the first line of a program: packages such as geomloss and GPyTorch look for pykeops once, when they
    are imported. If it is in place already, nothing happens.

    Returns
    -------
    module
        What ``import pykeops`` gives.

    Raises
    ------
    ImportError
        If another pykeops has been imported, which others may hold on to.

    See Also
    --------
    as_pykeops : the same for a block of code.

    Notes
    -----
    A pykeops that is installed cannot be reached meanwhile. ``importlib.metadata`` still tells its version, and knows
    no pykeops if none is installed.

    Examples
    --------
    >>> from kernelops.compat import install_as_pykeops, uninstall
    >>> pykeops = install_as_pykeops()
    >>> pykeops.__version__
    '2.3'
    >>> pykeops.numpy.eig
    Traceback (most recent call last):
      ...
    AttributeError: pykeops.numpy.eig is not in kernelops.compat, which stands in for pykeops
    >>> uninstall()
    """
    with _lock:
        if not is_installed():
            _refuse_another()
            sys.meta_path.insert(0, _FINDERS[0])
            sys.meta_path.append(_FINDERS[1])
            forget_warning()
            LOG.info("pykeops and keopscore are kernelops in this process")
        return import_module("pykeops")


def _refuse_another() -> None:
    """Raise an ImportError if a real pykeops, or a part of one, has been imported."""
    for name in _imported():
        where = getattr(sys.modules[name], "__file__", None) or "an unknown place"
        raise ImportError(
            f"{name} has been imported already, from {where}: install kernelops.compat before whatever imports it, or "
            "run the program by `python -m kernelops.compat`"
        )


def _imported() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in ROOTS]


def uninstall() -> None:
    """Have ``import pykeops`` find what is installed under this name again; nothing happens if it does already.

    Modules that have been imported meanwhile keep what they took from it.

    Examples
    --------
    >>> from kernelops.compat import install_as_pykeops, is_installed, uninstall
    >>> pykeops = install_as_pykeops()
    >>> uninstall()
    >>> is_installed()
    False
    """
    with _lock:
        if not is_installed():
            return
        for finder in _FINDERS:
            sys.meta_path.remove(finder)
        for name in _imported():
            del sys.modules[name]
        LOG.info("pykeops and keopscore are no longer kernelops")


@contextmanager
def as_pykeops() -> Iterator[ModuleType]:
    """A context in which ``import pykeops`` gives kernelops.

    It leaves things as they were: within another one, or after :func:`install_as_pykeops`, nothing is undone.

    Yields
    ------
    module
        What ``import pykeops`` gives.

    Raises
    ------
    ImportError
        If another pykeops has been imported.

    Examples
    --------
    >>> from kernelops.compat import as_pykeops
    >>> with as_pykeops():
    ...     from pykeops.numpy import Genred
    >>> Genred.__module__
    'kernelops.numpy'
    """
    before = is_installed()
    module = install_as_pykeops()
    try:
        yield module
    finally:
        if not before:
            uninstall()


__all__ = ["LOG", "ROOTS", "TESTS", "as_pykeops", "install_as_pykeops", "is_installed", "uninstall"]
