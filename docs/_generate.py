"""Write docs/_operations.md, the part of the formula reference that is read off the package's tables."""

from __future__ import annotations

import re
from pathlib import Path

from kernelops.formula.defined import DEFINED, call, signature
from kernelops.formula.expr import text, variable
from kernelops.formula.grad import grad
from kernelops.formula.ops import OPS

HERE = Path(__file__).parent

# Derivatives are shown for these static parameters, and for these lengths of the operands (1, or 3 where the operation
# is one of vectors).
PARAMS = {
    "Pow": (3,),
    "SinXDivX": (0,),
    "Extract": (1, 2),
    "ExtractT": (1, 4),
    "ClampInt": (0, 1),
    "Elem": (1,),
    "ElemT": (3, 1),
    "SumT": (3,),
}
LENGTHS = {
    "Concat": (2, 3),
    "ExtractT": (2,),
    "ClampInt": (1,),
    "ElemT": (1,),
    "SumT": (1,),
    "MatVecMult": (6, 3),
    "VecMatMult": (2, 6),
    "TensorProd": (2, 3),
}


def _operands(name: str) -> list[str]:
    """The names of the operands, as the signature has them."""
    arity = OPS[name].arity if name in OPS else DEFINED[name].arity
    inside = re.match(r"\w+\((.*)\)$", signature(name))
    assert inside is not None
    return inside[1].split(", ")[:arity]


def _derivative(name: str) -> str:
    """What each operand receives for a cotangent e of the result, as code."""
    if name == "TensorDot":
        return "`TensorDot` of e and g, `TensorDot` of f and e"
    operands, params = _operands(name), PARAMS.get(name, ())
    elementwise = name in OPS and OPS[name].elementwise
    lengths = LENGTHS.get(name, (1 if elementwise else 3,) * len(operands))
    variables = [variable("Vi", place, length) for place, length in enumerate(lengths)]
    result = call(name, *variables, params=params)
    e = variable("Vi", len(variables), result.dim)
    names = {**dict(zip(variables, operands, strict=True)), e: "e"}
    texts = [text(grad(result, v, e), names) for v in variables]
    example = f"{name}({', '.join([*operands, *map(str, params)])})"
    shown = ", ".join(f"`{t}`" for t in texts)
    return f"{shown} for `{example}`" if params else shown


def _rows(names: list[str]) -> str:
    texts = {name: row.text for name, row in (*OPS.items(), *DEFINED.items())}
    lines = [f"| `{signature(name)}` | {_plain(texts[name])} | {_derivative(name)} |" for name in names]
    return "\n".join(["| written | means | derivative |", "| --- | --- | --- |", *lines])


def _plain(text: str) -> str:
    """text with the signs escaped that mean something in a table of Markdown."""
    return text.replace("|", "\\|").replace("*", "\\*")


def _constants(names: list[str]) -> str:
    lines = [f"| `{signature(name)}` | {_plain(DEFINED[name].text)} |" for name in names]
    return "\n".join(["| written | means |", "| --- | --- |", *lines])


def operations() -> str:
    """The tables of all operations, primitive and defined, as Markdown."""
    constants = [name for name, row in DEFINED.items() if row.arity == 0]
    one = [name for name, row in OPS.items() if row.elementwise and row.arity == 1]
    several = [name for name, row in OPS.items() if row.elementwise and row.arity > 1]
    of_vectors = [name for name, row in OPS.items() if not row.elementwise]
    defined = [name for name, row in DEFINED.items() if row.arity > 0]
    sections = {
        "One argument, component by component": _rows([*one, "ClampInt"]),
        "Several arguments, component by component": _rows(several),
        "Vectors": _rows([name for name in defined + of_vectors if name != "ClampInt"]),
        "Constants": _constants(constants),
    }
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in sections.items()) + "\n"


if __name__ == "__main__":
    (HERE / "_operations.md").write_text(operations(), encoding="utf-8")
