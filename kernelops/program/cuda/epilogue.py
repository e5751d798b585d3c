"""The accumulators of a row while the pairs run, and the writing of its result, as lines of CUDA C++."""

from __future__ import annotations

from dataclasses import dataclass

from ..instructions import Program
from ..options import KernelOptions
from .emit import declare_array, loop_over_rows, wrap_block, write_unroll
from .layout import Layout, finishes


@dataclass(frozen=True, slots=True)
class Results:
    """The lines of a kernel that concern its results."""

    program: Program
    layout: Layout
    options: KernelOptions
    weights: int = 0  # of the components of a chunk those that every chunk has: the last one, or none

    @property
    def n(self) -> int:
        """Components that a row keeps at a time."""
        return self.layout.chunk

    @property
    def sums(self) -> bool:
        return self.program.kind in ("sum", "exp")

    @property
    def in_place(self) -> bool:
        """Whether the pairs write to the results themselves."""
        return self.program.kind == "entries" or not finishes(self.program, self.options.best)

    def clear(self) -> list[str]:
        """Clear the accumulators of a row."""
        p, rows = self.program, self.layout.held
        if self.sums:
            lines = declare_array("double", "sum", rows, self.n, filled=True)
            lines += declare_array("double", "lost", rows, self.n, filled=True) if self.options.compensated else []
            lines += declare_array("S", "part", rows, self.n, filled=True)
            if p.kind == "exp":
                lines += [*declare_array("T", "top", rows), *declare_array("T", "top_of_sum", rows)]
                lines += loop_over_rows(["top[r] = top_of_sum[r] = -infinity<T>();"])
            return lines
        if p.kind == "entries":
            return []
        if self.in_place:
            clear = [self._shelf_place("q"), self._clear_shelf("values + at", "indices + at")]
            return loop_over_rows(wrap_block(f"for (int q = 0; q < {p.n_out}; q++)", clear), inside=True)
        sizes = rows, p.n_out, self.options.best
        clear = [f"for (int q = 0; q < {p.n_out}; q++) {self._clear_shelf('value[r][q]', 'index[r][q]')}"]
        lines = [*declare_array("T", "value", *sizes), *declare_array("i64", "index", *sizes)]
        return [*lines, *loop_over_rows([write_unroll(p.n_out), *clear])]

    def _clear_shelf(self, value: str, index: str) -> str:
        return f"clear_shelf<{self.options.best}, {truth(self.options.largest)}>({value}, {index});"

    def kept(self, value: str, component: str) -> list[str]:
        """Offer a value of a pair to a component of the result."""
        n = self.program.n_out
        if self.program.kind == "entries":
            value = value if self.options.result == self.options.dtype else f"(O){value}"
            return [f"entries[((batch * M + from + c) * N + own + r * STEP) * {n} + {component}] = {value};"]
        flags = f"<{self.options.best}, {truth(self.options.largest)}, {truth(self.options.nan_first)}>"
        if not self.in_place:
            return [f"offer{flags}(value[r][{component}], index[r][{component}], {value}, from + c);"]
        offered = f"offer_long{flags}(values + at, indices + at, (double){value}, from + c);"
        return wrap_block("", [self._shelf_place(component), offered])

    def row(self) -> str:
        """The position of a row in the results."""
        first = "(piece * batches + batch)" if self.options.finish is None else "batch"
        return f"{first} * M + own + r * STEP"

    def _shelf_place(self, component: str) -> str:
        return f"const i64 at = (({self.row()}) * {self.program.n_out} + {component}) * {self.options.best};"

    def hand_over(self) -> list[str]:
        """Add the sums of a span of columns to those in double."""
        if not self.sums:
            return []
        n, lines = self.n, list[str]()
        if self.program.kind == "exp":
            arrays = ("sum", "lost") if self.options.compensated else ("sum",)
            lines = [f"rescale<{n}>({a}[r], (double)top_of_sum[r], (double)top[r]);" for a in arrays]
            lines.append("top_of_sum[r] = top[r];")
        lost = "lost[r], " if self.options.compensated else ""
        return loop_over_rows([*lines, f"hand_over<{n}>(sum[r], {lost}part[r]);"])

    def deliver(self) -> list[str]:
        """Write the results of a row when all columns are done."""
        if self.in_place:
            return []
        lines = self._deliver_best() if self.program.kind == "best" else self._deliver_sums()
        mine = ["if (threadIdx.x % LANES != r % LANES) continue;"] if self.layout.rectangle else []
        return loop_over_rows([*mine, f"const i64 at = {self.row()};", *lines], inside=True)

    def _deliver_best(self) -> list[str]:
        n, best, finish = self.program.n_out, self.options.best, self.options.finish
        if finish is None:
            place = f"(at * {n} + q) * {best} + k"
            lines = [f"values[{place}] = (double)value[r][q][k];", f"indices[{place}] = index[r][q][k];"]
        else:
            place, lines = f"(at * {best} + k) * {n} + q", []
            if finish != "indices":
                lines.append(f"result_values[{place}] = (O)value[r][q][k];")
            if finish != "values":
                lines.append(f"result_indices[{place}] = index[r][q][k];")
        inner = [write_unroll(best), *wrap_block(f"for (int k = 0; k < {best}; k++)", lines)]
        return [write_unroll(n), *wrap_block(f"for (int q = 0; q < {n}; q++)", inner)]

    def _deliver_sums(self) -> list[str]:
        n, whole, finish = self.n, self.program.n_out, self.options.finish
        total = "compensated(sum[r][{0}], lost[r][{0}])" if self.options.compensated else "sum[r][{0}]"
        name, kept, lines = ("sums" if finish is None else "result"), n, list[str]()
        if finish == "mean":
            lines.append(f"const double total = {total.format(n - 1)};")
            kept, whole = n - 1, whole - 1
        elif self.layout.passes > 1 and self.weights:  # every pass has it
            kept, last = n - 1, total.format(n - 1)
            lines.append(f"{name}[at * {whole} + {whole - 1}] = {self._final(last)};")
        many = self.layout.passes > 1
        test = f"if (q0 + q < {whole - (finish != 'mean' and self.weights)}) " * many
        place = f"at * {whole} + {'q0 + ' * many}q"
        value = self._final(total.format("q"))
        lines += [write_unroll(kept), f"for (int q = 0; q < {kept}; q++) {test}{name}[{place}] = {value};"]
        if finish is None and self.program.kind == "exp":
            lines.append("maxima[at] = (double)top[r];")
        return lines

    def _final(self, total: str) -> str:
        """The expression that is written for a sum."""
        return {
            None: total,
            "sum": f"(O){total}",
            "log": f"(O)log_of({total}, (double)top[r])",
            "mean": f"(O)mean_of({total}, total, (double)top[r])",
        }[self.options.finish]


def truth(value: bool) -> str:
    return "true" if value else "false"
