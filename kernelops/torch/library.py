"""Tensors as LazyTensors see them; see frontend.lazy.library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import DtypeError
from ..frontend.genred import Genred
from ..frontend.kernel_solve import KernelSolve

_NAMES = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64"}  # found faster than written


class TorchLibrary:
    """The functions of an LazyLibrary, for the Genred and the KernelSolve of kernelops.torch."""

    noun = "a torch tensor"
    door = "kernelops.torch"

    def __init__(self, genred: type[Genred], kernel_solve: type[KernelSolve]) -> None:
        self.genred, self.kernel_solve = genred, kernel_solve

    @staticmethod
    def is_array(x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    @staticmethod
    def check(x: Any) -> None:
        if x.layout is not torch.strided:
            raise DtypeError(f"wanted a dense tensor, got one of layout {x.layout}; .to_dense() makes one of it")

    @staticmethod
    def is_complex(x: Any) -> bool:
        return bool(x.is_complex())

    @staticmethod
    def dtype_name(x: Any) -> str:
        return _NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")

    @staticmethod
    def drop_axis(x: Any, axis: int) -> Any:
        return x.squeeze(axis)

    @staticmethod
    def parameter(values: Sequence[float], dtype: str | None, like: Any) -> Any:
        wanted = torch.float64 if dtype is None else getattr(torch, dtype)
        return torch.tensor(values, dtype=wanted, device=None if like is None else like.device)

    @staticmethod
    def concatenate(parts: Sequence[Any]) -> Any:
        return torch.cat(list(parts), -1)

    @staticmethod
    def exchange_axes(x: Any) -> Any:
        return x.transpose(-1, -2)

    @staticmethod
    def join_complex(real: Any, imaginary: Any) -> Any:
        return torch.complex(real, imaginary)

    @staticmethod
    def broadcast(x: Any, shape: tuple[int, ...]) -> Any:
        return x.expand(shape).clone()

    @staticmethod
    def keep(x: Any, mask: Any) -> Any:
        return torch.where(torch.from_numpy(mask).to(x.device), x, x.new_zeros(()))

    @staticmethod
    def take(x: Any, indices: Any) -> Any:
        return x[..., torch.from_numpy(indices).to(x.device), :]

    @staticmethod
    def to_host(x: Any) -> Any:
        return x.detach().cpu().numpy()
