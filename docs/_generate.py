"""Write docs/_operations.md, the part of the formula reference that is read off the package's tables."""

from __future__ import annotations

from pathlib import Path

from kernelops.formula.defined import DEFINED, signature
from kernelops.formula.ops import OPS

HERE = Path(__file__).parent


def _rows(names: list[str]) -> str:
    texts = {name: row.text for name, row in (*OPS.items(), *DEFINED.items())}
    lines = [f"| `{signature(name)}` | {_plain(texts[name])} |" for name in names]
    return "\n".join(["| written | means |", "| --- | --- |", *lines])


def _plain(text: str) -> str:
    """text with the signs escaped that mean something in a table of Markdown."""
    return text.replace("|", "\\|").replace("*", "\\*")


def operations() -> str:
    """The tables of all operations, primitive and defined, as Markdown."""
    constants = [name for name, row in DEFINED.items() if row.arity == 0]
    one = [name for name, row in OPS.items() if row.elementwise and row.arity == 1]
    several = [name for name, row in OPS.items() if row.elementwise and row.arity > 1]
    of_vectors = [name for name, row in OPS.items() if not row.elementwise]
    defined = [name for name, row in DEFINED.items() if row.arity > 0]
    sections = {
        "One argument, component by component": one,
        "Several arguments, component by component": several,
        "Vectors": defined + of_vectors,
        "Constants": constants,
    }
    return "\n\n".join(f"### {title}\n\n{_rows(names)}" for title, names in sections.items()) + "\n"


if __name__ == "__main__":
    (HERE / "_operations.md").write_text(operations(), encoding="utf-8")
