"""Write the parts of the documentation that are read off the package: operations, and the options of a solve."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

from kernelops import solve
from kernelops.formula.calculus import CALCULUS
from kernelops.formula.complex import COMPLEX
from kernelops.formula.defined import DEFINED, call, signature
from kernelops.formula.elementary import ELEMENTARY
from kernelops.formula.expr import text, variable
from kernelops.formula.grad import grad
from kernelops.formula.ops import OPS
from kernelops.frontend import KernelSolve
from kernelops.frontend.lazy.methods import METHODS
from kernelops.frontend.lazy.reductions import REDUCTION_METHODS
from kernelops.numpy import LazyTensor

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
    "Slice": (0, 2, 2),
    "SliceT": (0, 3, 2),
    "DiffClampInt": (0, 1),
    "Round": (2,),
    "OneHot": (3,),
    "BSpline": (2,),
    "Kron": ((3,), (3,)),
    "ComplexSumT": (6,),
}
# methods of a LazyTensor that are more than one operation
OTHER_METHODS = (
    *(
        "clamp",
        "sinc",
        "norm",
        "power",
        "weightedsqdist",
        "concat",
        "concatenate",
        "cat",
        "keops_tensordot",
        "keops_kron",
    ),
    *("grad", "diff", "grad_matrix", "divergence", "laplacian", "trace_operator"),
    *("real2complex", "imag2complex", "exp1j"),
)
LENGTHS = {
    **dict.fromkeys(ELEMENTARY, (1, 1, 1)),
    **{name: (2, 2) for name in COMPLEX},
    "SliceT": (2,),
    "SqNormIso": (1, 3),
    "SymSqNorm": (9, 3),
    "OneHot": (1,),
    "BSpline": (5, 1),
    "SoftDTW_SqDist": (3, 3, 1),
    "ComplexRealScal": (1, 2),
    "Concat": (2, 3),
    "ExtractT": (2,),
    "ElemT": (1,),
    "SumT": (1,),
    "MatVecMult": (6, 3),
    "VecMatMult": (2, 6),
    "TensorProd": (2, 3),
}

LONGEST = 160  # characters of a derivative that is shown


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
    lengths = LENGTHS.get(name, (1 if elementwise else 3,) * len(operands))[: len(operands)]
    variables = [variable("Vi", place, length) for place, length in enumerate(lengths)]
    result = call(name, *variables, params=params)
    e = variable("Vi", len(variables), result.dim)
    names = {**dict(zip(variables, operands, strict=True)), e: "e"}
    texts = [text(grad(result, v, e), names) for v in variables]
    if sum(map(len, texts)) > LONGEST:
        return "that of what it is made of"
    example = f"{name}({', '.join([*operands, *(str(list(p)) if isinstance(p, tuple) else str(p) for p in params)])})"
    shown = ", ".join(f"`{t}`" for t in texts)
    return f"{shown} for `{example}`" if params else shown


def _rows(names: list[str]) -> str:
    texts = {name: row.text for name, row in (*OPS.items(), *DEFINED.items())}
    lines = [f"| `{signature(name)}` | {_plain(texts[name])} | {_derivative(name)} |" for name in names]
    return "\n".join(["| written | means | derivative |", "| --- | --- | --- |", *lines])


def _plain(text: str) -> str:
    """text with the signs escaped that mean something in a table of Markdown."""
    return text.replace("|", "\\|").replace("*", "\\*")


def _meanings(texts: Mapping[str, str]) -> str:
    lines = [f"| `{written}` | {_plain(text)} |" for written, text in texts.items()]
    return "\n".join(["| written | means |", "| --- | --- |", *lines])


def operations() -> str:
    """The tables of all operations, primitive and defined, as Markdown."""
    constants = [name for name, row in DEFINED.items() if row.arity == 0]
    one = [name for name, row in OPS.items() if row.elementwise and row.arity == 1]
    one += [name for name, row in ELEMENTARY.items() if row.arity == 1]
    several = [name for name, row in OPS.items() if row.elementwise and row.arity > 1]
    several += [name for name, row in ELEMENTARY.items() if row.arity > 1]
    of_vectors = [name for name, row in DEFINED.items() if row.arity > 0 and name not in {**ELEMENTARY, **COMPLEX}]
    of_vectors += [name for name, row in OPS.items() if not row.elementwise]
    sections = {
        "One argument, component by component": _rows(one),
        "Several arguments, component by component": _rows(several),
        "Vectors": _rows(of_vectors),
        "Complex numbers": _rows(list(COMPLEX)),
        "Symbolic calculus": _meanings({row.signature: row.text for row in CALCULUS.values()}),
        "Constants": _meanings({signature(name): DEFINED[name].text for name in constants} | {"pi": "the number pi"}),
    }
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in sections.items()) + "\n"


def arguments(name: str, function: Callable[..., Any]) -> str:
    """A function as it is called, with its defaults, and a table of its arguments from its docstring."""
    shown = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            shown.append(f"*{p.name}")
        elif p.kind is not p.VAR_KEYWORD and p.name != "self":
            if p.kind is p.KEYWORD_ONLY and not any(s.startswith("*") for s in shown):
                shown.append("*")
            shown.append(p.name if p.default is p.empty else f"{p.name}={p.default!r}")
    first, rest = f"    {name}(", " " * (5 + len(name))
    lines = wrap(", ".join(shown) + ")", 112 - len(name), break_long_words=False)
    described = inspect.getdoc(function)
    assert described is not None
    section = re.search(r"Parameters\n-+\n(.*?)\n\n", described, re.DOTALL)
    assert section is not None
    rows = ["| argument | type, default | what it does |", "| --- | --- | --- |"]
    for entry in re.split(r"\n(?=\S)", section[1]):
        head, *text = entry.split("\n")
        names, _, kind = head.partition(" : ")
        listed = ", ".join(f"`{n}`" for n in names.split(", "))
        rows.append(f"| {listed} | {_markdown(kind)} | {_markdown(' '.join(line.strip() for line in text))} |")
    return "\n".join([first + lines[0], *(rest + line for line in lines[1:]), "", *rows]) + "\n"


def _markdown(text: str) -> str:
    """reStructuredText of a docstring as Markdown within a table."""
    text = re.sub(r":(\w+):`([^`]*)`", r"{\1}`\2`", text.replace("``", "`"))
    return text.replace("|", "\\|")


def methods() -> str:
    """The methods of a LazyTensor that are one operation each, and its reductions, as Markdown."""
    lines = ["| method | gives |", "| --- | --- |"]
    for name, row in METHODS.items():
        lines.append(f"| `{_written(name, row.operands, row.params)}` | {_plain(row.text.rstrip('.'))} |")
    for name in OTHER_METHODS:
        described = inspect.getdoc(getattr(LazyTensor, name))
        assert described is not None
        parameters = inspect.signature(getattr(LazyTensor, name)).parameters
        shown = ", ".join(
            p if v.default is v.empty else f"{p}={v.default!r}" for p, v in parameters.items() if p != "self"
        )
        lines.append(f"| `{name}({shown})` | {_plain(described.splitlines()[0].rstrip('.'))} |")
    lines += ["", "| reduction | gives |", "| --- | --- |"]
    for name, reduction in REDUCTION_METHODS.items():
        lines.append(f"| `{name}` | {_plain(reduction.text.rstrip('.'))} |")
    return "\n".join(lines) + "\n"


def _written(name: str, operands: tuple[tuple[str, Any], ...], params: tuple[tuple[str, Any], ...]) -> str:
    """A method with its arguments."""
    shown = [p if default is inspect.Parameter.empty else f"{p}={default}" for p, default in (*operands, *params)]
    return f"{name}({', '.join(shown)})"


def quirks() -> str:
    """The expressions on which KeOps and LazyTensors may differ, with both answers, as Markdown."""
    module: dict[str, Any] = {}
    exec((HERE.parent / "tests" / "lazy" / "keops_quirks.py").read_text(encoding="utf-8"), module)
    lines = ["| written | KeOps 2.3 | kernelops |", "| --- | --- | --- |"]
    for row in module["QUIRKS"]:
        lines.append("| " + " | ".join(f"`{_in_table(text)}`" for text in row) + " |")
    return "\n".join(lines) + "\n"


def _in_table(text: str) -> str:
    """Code in one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    pages = {
        "_quirks.md": quirks(),
        "_lazytensor.md": methods(),
        "_operations.md": operations(),
        "_solve.md": arguments("solve", solve),
        "_kernelsolve.md": arguments("solver", KernelSolve.__call__),
    }
    for name, page in pages.items():
        (HERE / name).write_text(page, encoding="utf-8")
