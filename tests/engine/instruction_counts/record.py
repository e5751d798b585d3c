"""Counts instructions and writes them to figures.json, for the compiler that built the module at hand.

    python tests/engine/instruction_counts/record.py [REGEXP ...]

With regular expressions nothing is written: the main loops of the functions that match are printed.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from instruction_counts import callgrind, loops

FIGURES = Path(__file__).parent / "figures.json"


def recorded():
    """compiler -> kind -> name -> figures."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def record():
    """Count everything that can be counted here, and keep the rest as it was."""
    all_figures = recorded()
    figures = all_figures.setdefault(loops.compiler(), {})
    if why := callgrind.missing():
        print(f"instructions per pair stay as they are: {why}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            per_pair = callgrind.counts(Path(folder))
        figures["per pair, avx2"] = {name: round(count, 2) for name, count in per_pair.items()}
    if why := loops.missing():
        print(f"instructions of loops stay as they are: {why}")
    else:
        figures["loop, avx512"] = loops.counts()
    FIGURES.write_text(json.dumps(all_figures, indent=2, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    for pattern in sys.argv[1:]:
        for name, loop in loops.main_loops(pattern).items():
            print(f"{name}: {loop.instructions} instructions, {loop.arithmetic} of them arithmetic on zmm registers")
    if not sys.argv[1:]:
        record()
