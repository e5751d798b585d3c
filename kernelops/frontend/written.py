"""The half of Genred and KernelSolve that holds a checked formula, and its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..formula.cached import cached_property
from ..formula.expr import text

if TYPE_CHECKING:
    from typing import Self


class Written:
    """A formula that can be called: made of text by the user, or of a specification that is checked already."""

    spec: Any

    @classmethod
    def of(cls, spec: Any) -> Self:
        """The same of a specification instead of text.

        Parameters
        ----------
        spec : Reduction or SolveSpec
            All of the call but its arrays, checked.
        """
        made = object.__new__(cls)
        made.spec = spec
        return made

    @cached_property
    def formula(self) -> str:
        """The formula as text; what the user wrote, if it was made of text."""
        return text(self.spec.expr, self.spec.names)

    @cached_property
    def aliases(self) -> tuple[str, ...]:
        """The arguments in their order, each with its position unless the user wrote them."""
        names = self.spec.names
        return tuple(f"{names.get(v, f'v{v.position}')} = {v.op}({v.position},{v.dim})" for v in self.spec.variables)
