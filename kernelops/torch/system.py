"""alpha I + K whose vectors are tensors: a solve on a GPU leaves them there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from ..arrays.arguments import Arguments
from ..arrays.device_array import DeviceArray
from ..operators.shift import check_alpha
from ..operators.system import KernelSystem, SolveSpec
from ..solvers import Solution
from .tensors import on
from .vectors import TensorVectors

SIGNS = 4  # columns of the product that tells how large a matrix is


def device_of(arguments: Arguments) -> torch.device | None:
    """The device on which a solve with these arrays keeps its vectors; None for the host, if they are numpy's."""
    if arguments.device is None:
        return None
    for a in arguments.arrays:
        if isinstance(a, DeviceArray) and a.library == "torch":
            return torch.device(a.owner.device)
    if not torch.cuda.is_available():  # a torch that knows no GPU, beside arrays that are sent to one
        return None
    return torch.device("cuda", arguments.device if arguments.device >= 0 else torch.cuda.current_device())


class TensorSystem(KernelSystem):
    """The same as a KernelSystem, of blocks on a device.

    What preconditioners see of it, single entries and the diagonal, stays on the host.
    """

    def __init__(self, spec: SolveSpec, arguments: Arguments, alpha: np.ndarray, device: torch.device) -> None:
        super().__init__(spec, arguments, alpha)
        self.vectors = TensorVectors(device)

    def right_hand_side(self, arguments: Arguments) -> torch.Tensor:
        if not isinstance(self.given, DeviceArray) or self.given.library != "torch":
            return on(self.vectors.device, super().right_hand_side(arguments))
        b: torch.Tensor = self.given.owner.expand(self.b_shape)
        return b.reshape(*b.shape[:-2], self.n, 1) if self.coupled else b


def narrow_right_hand_side(spec: SolveSpec, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The tensors with b in the dtype of the others, if the spec allows it to be wider."""
    position = spec.unknown.position
    others = [t.dtype for p, t in enumerate(tensors) if t is not None and p != position]
    if not spec.wide or not others or tensors[position].dtype == others[0]:
        return tensors
    return [t.to(others[0]) if p == position else t for p, t in enumerate(tensors)]


def run(spec: SolveSpec, alpha: torch.Tensor, tensors: Sequence[torch.Tensor], stacklevel: int) -> Solution:
    """The solve of a spec, on the device of the tensors; a b that is wider than the other tensors keeps its digits."""
    arguments, system = bound_system(spec, alpha, tensors)
    b, given, device = None, tensors[spec.unknown.position].detach(), device_of(arguments)
    if narrow_right_hand_side(spec, tensors) is not tensors:
        b = given.to(torch.float64).expand(system.b_shape)
        b = b.reshape(*b.shape[:-2], -1, 1) if system.coupled else b
        b = b.numpy(force=True) if device is None else b.to(device)
    with nullcontext() if device is None else torch.autocast(device.type, enabled=False):  # no halves in a solve
        return spec(arguments, check_alpha(alpha), stacklevel=stacklevel + 1, system=system, b=b)


def size_of(spec: SolveSpec, alpha: torch.Tensor, tensors: Sequence[torch.Tensor]) -> float:
    """About the Frobenius norm of alpha I + K, of a batch the largest: at least about the largest eigenvalue."""
    arguments, system = bound_system(spec, alpha, tensors)
    n, vectors = system.n, system.vectors
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (n, SIGNS))
    V = vectors.from_host(np.broadcast_to(signs, (*system.b_shape[:-2], n, SIGNS)).copy())
    image = system.product(V)
    return float(np.sqrt(vectors.dot(image, image).real.mean(axis=-1).max(initial=0.0)))


def bound_system(
    spec: SolveSpec, alpha: torch.Tensor, tensors: Sequence[torch.Tensor]
) -> tuple[Arguments, KernelSystem]:
    """The arrays of a solve, and its system where they are."""
    arguments, checked = spec.bind(narrow_right_hand_side(spec, tensors)), check_alpha(alpha)
    device = device_of(arguments)
    if device is None:
        return arguments, spec.system(arguments, checked)
    return arguments, TensorSystem(spec, arguments, checked, device)
