"""Scripts and packages that import pykeops, run by kernelops as they stand.

``python -m kernelops.compat script.py`` and ``python -m kernelops.compat -m pytest ...`` run a program in a process
whose ``pykeops`` is kernelops. A program of one's own says so in its first line:

>>> import kernelops.compat
>>> pykeops = kernelops.compat.install_as_pykeops()
>>> from pykeops.numpy import LazyTensor
>>> LazyTensor.__module__
'kernelops.compat.numpy'
>>> kernelops.compat.uninstall()

alias.py puts the names into Python's table of modules and takes them out again, modules.py lists what each module of
pykeops holds, numpy.py and torch.py have LazyTensors that are true, as those of KeOps are. Nothing happens before it is
asked for: neither kernelops nor this package acts when it is imported.
"""

from .alias import as_pykeops, install_as_pykeops, is_installed, uninstall

__all__ = ["as_pykeops", "install_as_pykeops", "is_installed", "uninstall"]
