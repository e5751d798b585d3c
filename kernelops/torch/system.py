"""alpha I + K whose vectors are tensors: a solve on a GPU leaves them there."""

from __future__ import annotations

import numpy as np
import torch

from ..arrays import Bound
from ..device_array import DeviceArray
from ..specs import KernelSystem, SolveSpec
from .blocks import on
from .verbs import TensorVerbs


def device_of(bound: Bound) -> torch.device | None:
    """The device on which a solve with these arrays keeps its vectors; None for the host, where they are numpy's."""
    if bound.device is None:
        return None
    for a in bound.arrays:
        if isinstance(a, DeviceArray) and a.home == "torch":
            return torch.device(a.owner.device)
    if not torch.cuda.is_available():  # a torch that knows no GPU, beside arrays that are sent to one
        return None
    return torch.device("cuda", bound.device if bound.device >= 0 else torch.cuda.current_device())


class TensorSystem(KernelSystem):
    """The same as a KernelSystem, of blocks on a device.

    What preconditioners see of it, single entries and the diagonal, stays on the host.
    """

    def __init__(self, spec: SolveSpec, bound: Bound, alpha: np.ndarray, device: torch.device) -> None:
        super().__init__(spec, bound, alpha)
        self.verbs = TensorVerbs(device)
        self._alpha = on(device, self.alpha) if self.alpha.ndim else None

    def right_hand_side(self, bound: Bound) -> torch.Tensor:
        if not isinstance(self.given, DeviceArray) or self.given.home != "torch":
            return on(self.verbs.device, super().right_hand_side(bound))
        b: torch.Tensor = self.given.owner.expand(self.b_shape)
        return b.reshape(*b.shape[:-2], self.n, 1) if self.coupled else b

    def product(self, V: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.kernel.on_columns(V)
        if self._alpha is None:
            return image.add_(V, alpha=float(self.alpha))
        return image.add_(self._alpha * V)
