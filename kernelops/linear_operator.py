"""Where KernelOperator was in version 0.1.0: pickles of that version name this module."""

from .operators.linear_operator import KernelOperator, _rebuilt

__all__ = ["KernelOperator", "_rebuilt"]
