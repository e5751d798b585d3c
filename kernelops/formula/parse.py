"""Text and aliases -> Formula, by tokens and precedence climbing; errors show the place with a caret.

From tight to loose: call, ``**`` (to the right), unary ``-``, ``* /``, ``+ -``, ``|`` (dot product), comparisons
(which do not chain). Nothing is simplified: the text of an expression is read back to the same node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NoReturn

from ..errors import FormulaError
from .calculus import CALCULUS, MOST_DERIVED
from .defined import CONSTANTS, DEFINED, call, signature
from .expr import LONGEST, Expr, const, is_const, topological, variable
from .ops import LARGEST, OPS, VARIABLES
from .tokens import Token, nearest, shorten, syntax_error, tokens

DEEPEST = 200  # brackets within brackets; each takes three Python frames, of which there are a thousand
MOST_OPERATIONS = 50_000  # a formula may have so many operations, which take some seconds
MOST_ARGUMENTS = 10_000  # positions are below this, because every list of arrays has an entry for each

_SPELLINGS = {"Vi": "Vi", "Vj": "Vj", "Pm": "Pm", "Vx": "Vi", "Vy": "Vj"}
_LISTS = frozenset(OPS["TensorDot"].params)
_OPTIONAL = {"SinXDivX": 1, "TensorDot": 1}  # so many of the last static parameters may be left out
_BINDING = {"|": 2, "+": 3, "-": 3, "*": 4, "/": 4, "**": 6} | dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 1)
_UNARY = 5
_OPERATORS = {
    "|": "Scalprod",
    "+": "Add",
    "-": "Subtract",
    "*": "Mult",
    "/": "Divide",
    "<": "LessThan",
    ">": "LessThan",
    "<=": "LessOrEqual",
    ">=": "LessOrEqual",
    "==": "Equal",
    "!=": "NotEqual",
}


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """A formula as read.

    Attributes
    ----------
    expr : Expr
        What the text says, nothing simplified.
    names : mapping of Expr to str
        The names of the variables, for messages.
    variables : tuple of Expr
        Every variable of the aliases and of the text, ordered by position.
    text : str
        The text that was read.
    """

    expr: Expr
    names: Mapping[Expr, str]
    variables: tuple[Expr, ...]
    text: str

    def __str__(self) -> str:
        return self.text

    def find(self, name: str) -> Expr:
        """The variable of that name; raises FormulaError."""
        for node, known in self.names.items():
            if known == name:
                return node
        raise FormulaError(f"there is no variable {shorten(repr(name))}{nearest(str(name), list(self.names.values()))}")


def parse(text: str, aliases: Sequence[str] = ()) -> Formula:
    """Read a formula.

    Parameters
    ----------
    text : str
        The formula, over the names of the aliases.
    aliases : sequence of str
        ``"x = Vi(3)"`` and the like; the place in the list is the position of the argument unless the alias gives one.

    Returns
    -------
    Formula
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a text, got {type(text).__name__}: {shorten(repr(text))}")
    names = _read_aliases(aliases)
    reader = _Reader(text, names)
    try:
        expr = reader.formula()
    except RecursionError:  # the caller had used up the Python stack before we began
        raise FormulaError(f"the formula is nested too deeply: {text[:60]}...") from None
    variables = tuple(reader.variables[p] for p in sorted(reader.variables))
    return Formula(expr, {node: name for name, node in names.items()}, variables, text)


def parse_alias(text: str, index: int) -> tuple[str, Expr]:
    """The name and the variable of one alias, which stands at that index of the list."""
    if not isinstance(text, str):
        raise FormulaError(f'an alias is a text such as "x = Vi(3)", got {type(text).__name__}: {shorten(repr(text))}')
    return _Reader(text, {}).alias(index)


def _read_aliases(aliases: Sequence[str]) -> dict[str, Expr]:
    if isinstance(aliases, str) or not isinstance(aliases, Sequence):
        raise FormulaError(f'aliases are a list of texts such as ["x = Vi(3)"], got {shorten(repr(aliases))}')
    if len(aliases) > MOST_ARGUMENTS:
        raise FormulaError(f"there are {len(aliases)} aliases, wanted {MOST_ARGUMENTS} at most")
    names: dict[str, Expr] = {}
    owners: dict[int, str] = {}
    for index, text in enumerate(aliases):
        name, node = parse_alias(text, index)
        position = node.position
        if name in names:
            syntax_error(f"the name {shorten(name)} is given twice", text, 0)
        if position in owners:
            syntax_error(f"position {position} is taken by {shorten(owners[position])} already", text, 0)
        names[name], owners[position] = node, name
    return names


class _Reader:
    """The tokens of one text and the place reached; every method leaves the place behind what it has read."""

    def __init__(self, text: str, names: Mapping[str, Expr]) -> None:
        self.text = text
        self.names = names
        self.variables: dict[int, Expr] = {node.position: node for node in names.values()}
        if len(text) > LONGEST:
            raise FormulaError(f"the text has {len(text)} characters, wanted {LONGEST} at most: {shorten(text)}")
        self.tokens = tokens(text)
        self.next = 0
        self.depth = 0
        self.operations = 0

    def formula(self) -> Expr:
        """The expression that the whole text stands for."""
        if self.peek().kind == "end":
            self.fail("the formula is empty", self.peek())
        expr = self.expression(0)
        if self.peek().kind != "end":
            self.fail(f"expected an operator or the end, got {shorten(self.peek().text)!r}", self.peek())
        return expr

    def alias(self, index: int) -> tuple[str, Expr]:
        """The name and the variable of an alias, as in "x = Vi(3)"; its position is index unless the text has one."""
        name = self.take()
        if name.kind != "name" or name.text in _SPELLINGS or name.text == "Var":
            self.fail('an alias begins with the name of a variable, as in "x = Vi(3)"', name)
        self.expect("=")
        kind = self.take()
        if kind.text not in _SPELLINGS and kind.text != "Var":
            self.fail("expected Vi, Vj, Pm or Var", kind)
        node = self.variable(kind, self.arguments(kind), index)
        if self.peek().kind != "end":
            self.fail(f"expected the end of the alias, got {shorten(self.peek().text)!r}", self.peek())
        return name.text, node

    # tokens

    def peek(self) -> Token:
        return self.tokens[self.next]

    def take(self) -> Token:
        token = self.tokens[self.next]
        self.next += token.kind != "end"
        return token

    def expect(self, sign: str) -> None:
        token = self.take()
        if token.text != sign:
            self.fail(f"expected {sign!r}, got {shorten(token.text)!r}" if token.text else f"expected {sign!r}", token)

    def fail(self, message: str, token: Token) -> NoReturn:
        syntax_error(message, self.text, token.place)

    def make(self, token: Token, name: str, *args: Expr, params: tuple[object, ...] = ()) -> Expr:
        """The operation, with its complaints put under the token."""
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            self.fail(f"the formula has more than {MOST_OPERATIONS} operations", token)
        try:
            node = call(name, *args, params=params)
        except FormulaError as error:
            self.fail(str(error), token)
        if node.dim > LARGEST:
            self.fail(f"{name} gives a vector of length {node.dim}, the longest is {LARGEST}", token)
        return node

    # grammar

    def expression(self, loosest: int) -> Expr:
        """An expression whose operators bind at least as tightly as ``loosest``."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"the formula is nested more than {DEEPEST} levels deep", self.peek())
        left = self.operand()
        while (binding := _BINDING.get(self.peek().text, -1)) >= loosest:
            sign = self.take()
            right = self.expression(_UNARY if sign.text == "**" else binding + 1)
            left = self.binary(sign, left, right)
            if binding == 1 and _BINDING.get(self.peek().text) == 1:
                self.fail("comparisons do not chain, use brackets", self.peek())
        self.depth -= 1
        return left

    def operand(self) -> Expr:
        """The expression of a number, a variable, a call, brackets or a signed operand, which begins here."""
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "name":
            return self.call(token) if self.peek().text == "(" else self.name(token)
        if token.text == "(":
            inner = self.expression(0)
            self.expect(")")
            return inner
        if token.text in ("-", "+"):
            inner = self.expression(_UNARY)
            if token.text == "+":
                return inner
            return const(-inner.value, inner.dim) if is_const(inner) else self.make(token, "Minus", inner)
        wanted = "expected a variable, a number or an operation"
        self.fail(f"{wanted}, got {shorten(token.text)!r}" if token.text else f"{wanted}, but the text ends", token)

    def number(self, token: Token) -> Expr:
        """A constant."""
        value = float(token.text)
        if not isfinite(value):
            self.fail(f"the number {shorten(token.text)} is too large", token)
        return const(value)

    def name(self, token: Token) -> Expr:
        """The variable of this name."""
        if token.text in self.names:
            return self.names[token.text]
        if token.text in CONSTANTS:
            return const(CONSTANTS[token.text])
        if token.text in OPS or token.text in DEFINED or token.text in CALCULUS:
            row = CALCULUS.get(token.text)
            written = row.signature if row else signature(token.text)
            self.fail(f"{token.text} is an operation and wants its arguments: {written}", token)
        self.unknown("variable", token)

    def unknown(self, what: str, token: Token) -> NoReturn:
        """Raise the error for a name that means nothing, with the nearest one that does."""
        known = [*self.names, *CONSTANTS, *OPS, *DEFINED, *CALCULUS]
        self.fail(f"unknown {what} {shorten(token.text)}{nearest(token.text, known)}", token)

    def binary(self, sign: Token, left: Expr, right: Expr) -> Expr:
        """The expression of an operator between two operands."""
        if sign.text == "**":
            return self.power(sign, left, right)
        if sign.text in (">", ">="):
            left, right = right, left
        return self.make(sign, _OPERATORS[sign.text], left, right)

    def power(self, sign: Token, base: Expr, exponent: Expr) -> Expr:
        """The base to the exponent, by the cheapest operation that says it."""
        value = exponent.value if is_const(exponent) and exponent.dim == 1 else None
        if value == 2:
            return self.make(sign, "Square", base)
        if value == 0.5:
            return self.make(sign, "Sqrt", base)
        if value is not None and value == int(value) and abs(value) <= LARGEST:
            return self.make(sign, "Pow", base, params=(int(value),))
        return self.make(sign, "Powf", base, exponent)

    def call(self, name: Token) -> Expr:
        """The expression of an operation with its arguments in brackets, whose name was read."""
        if name.text in _SPELLINGS or name.text == "Var":
            return self.declare(name, self.variable(name, self.arguments(name), None))
        if name.text in CALCULUS:
            return self.derivative(name, self.arguments(name))
        row = OPS.get(name.text) or DEFINED.get(name.text)
        if row is None:
            if name.text in self.names:
                self.fail(f"{shorten(name.text)} is a variable, not an operation", name)
            self.unknown("operation", name)
        arguments = self.arguments(name)
        most = row.arity + len(row.params)
        least = most - _OPTIONAL.get(name.text, 0)
        if not least <= len(arguments) <= most:
            wanted = str(most) if least == most else f"{least} or {most}"
            self.fail(f"{name.text} takes {wanted} argument(s), got {len(arguments)}", name)
        operands = [self.vector(token, a) for token, a in arguments[: row.arity]]
        static = zip(row.params, arguments[row.arity :], strict=False)
        params = tuple(self.integers(*a) if p in _LISTS else self.integer(*a) for p, a in static)
        return self.make(name, name.text, *operands, params=params)

    def arguments(self, name: Token) -> list[tuple[Token, Expr | tuple[int, ...]]]:
        """The arguments in brackets, each with its first token; a list of integers comes as a tuple."""
        self.expect("(")
        found: list[tuple[Token, Expr | tuple[int, ...]]] = []
        if self.peek().text == ")":
            self.fail(f"{name.text} wants arguments, got none", name)
        while True:
            first = self.peek()
            found.append((first, self.list_of_integers() if first.text == "[" else self.expression(0)))
            token = self.take()
            if token.text == ")":
                return found
            if token.text != ",":
                self.fail(f"expected ',' or ')' in the arguments of {name.text}", token)

    def list_of_integers(self) -> tuple[int, ...]:
        """The integers of a list in square brackets."""
        self.expect("[")
        values: list[int] = []
        while self.peek().text != "]":
            if values:
                self.expect(",")
            first = self.peek()
            values.append(self.integer(first, self.expression(0)))
        self.expect("]")
        return tuple(values)

    def vector(self, token: Token, value: Expr | tuple[int, ...]) -> Expr:
        """The argument as an expression; a list of integers is refused."""
        if isinstance(value, tuple):
            self.fail("a list of integers cannot stand here, wanted an expression", token)
        return value

    def integer(self, token: Token, value: Expr | tuple[int, ...]) -> int:
        """The argument as an integer; anything else is refused."""
        if isinstance(value, tuple) or not is_const(value) or value.dim != 1 or value.value != int(value.value):
            self.fail("expected an integer", token)
        if abs(value.value) > LARGEST:
            self.fail(f"expected an integer of at most {LARGEST}", token)
        return int(value.value)

    def integers(self, token: Token, value: Expr | tuple[int, ...]) -> tuple[int, ...]:
        if not isinstance(value, tuple):
            self.fail("expected a list of integers, such as [2,3]", token)
        return value

    def variable(self, kind: Token, arguments: list[tuple[Token, Expr | tuple[int, ...]]], index: int | None) -> Expr:
        """``Vi(D)`` where an index stands for the position, ``Vi(pos, D)``, ``Var(pos, D, cat)``."""
        numbers = [self.integer(*a) for a in arguments]
        op = _SPELLINGS.get(kind.text)
        if op is None:
            if len(numbers) != 3:
                self.fail(f"Var(position, length, category) got {len(numbers)} argument(s)", kind)
            if numbers[2] not in (0, 1, 2):
                self.fail("expected category 0 (i), 1 (j) or 2 (parameter)", arguments[2][0])
            op = VARIABLES[numbers[2]]
        elif len(numbers) == 1 and index is not None:
            numbers.insert(0, index)
        elif len(numbers) != 2:
            wanted = (
                f"{kind.text}(length) or {kind.text}(position, length)"
                if index is not None
                else (f"{kind.text}(position, length)")
            )
            self.fail(f"expected {wanted}, got {len(numbers)} argument(s)", kind)
        position, length = numbers[:2]
        if position < 0 or length < 1:
            self.fail(f"expected a position >= 0 and a length >= 1, got {position} and {length}", kind)
        if position >= MOST_ARGUMENTS:
            self.fail(f"expected a position below {MOST_ARGUMENTS}, got {position}", kind)
        return variable(op, position, length)

    def declare(self, token: Token, node: Expr) -> Expr:
        """The variable, once it does not contradict another one at its position."""
        other = self.variables.setdefault(node.position, node)
        if other is not node:
            self.fail(f"position {node.position} is {other.op} of length {other.dim} elsewhere", token)
        return node

    def derivative(self, name: Token, arguments: list[tuple[Token, Expr | tuple[int, ...]]]) -> Expr:
        """What an operation of the symbolic calculus stands for."""
        row = CALCULUS[name.text]
        count = 2 if row.along is None else 3
        if len(arguments) != count:
            self.fail(f"{name.text} takes {count} argument(s), got {len(arguments)}", name)
        f, var, *along = (self.vector(*a) for a in arguments)
        if var.op not in VARIABLES:
            self.fail(f"{row.signature} wants a variable for v", arguments[1][0])
        for direction in along:
            length = f.dim if row.along == "f" else var.dim
            if direction.dim not in (1, length):
                wanted = "1" if length == 1 else f"1 or {length}"
                letter = row.signature[-2]
                self.fail(f"{row.signature} wants {letter} of length {wanted}, got {direction.dim}", arguments[2][0])
        try:
            found = row.build(f, var, *along)
        except FormulaError as error:  # an exponent or an order that is out of range, a length that does not fit
            self.fail(str(error), name)
        if sum(1 for _ in topological(found)) > MOST_DERIVED:
            self.fail(f"the derivative has more than {MOST_DERIVED} operations", name)
        return found
