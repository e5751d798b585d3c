"""Kernels that are smooth in the squared distance, in hundreds of spellings, and their derivatives by mpmath.

A kernel is a function f of the scaled distance rho = g*|x - y| whose odd Taylor coefficients at 0 vanish up to some
order. A spelling takes one way to write rho, one to write its square, and one to write f with them.
"""

import random
from dataclasses import dataclass
from functools import cache

import mpmath as mp

G = 1.3
D = 2
ALIASES = [f"x = Vi({D})", f"y = Vj({D})", "g = Pm(1)"]

DISTANCES = [  # g*|x - y|
    "g*Norm2(x-y)",
    "Norm2(x-y)*g",
    "Norm2(g*(x-y))",
    "Norm2(g*x-g*y)",
    "Norm2((x-y)*g)",
    "Norm2(x-y)/Inv(g)",
    "Norm2((y-x)/Inv(g))",
    "Sqrt(g*g*SqDist(x,y))",
    "Sqrt(Square(g)*SqNorm2(y-x))",
    "Sqrt(SqDist(g*x,g*y))",
    "Sqrt(SqDist(x,y)/Inv(g*g))",
    "Sqrt(WeightedSqNorm(g*g,x-y))",
    "Sqrt(WeightedSqDist(SumT(g*g,2),x,y))",
    "g*Sqrt((x-y|x-y))",
    "g*Sqrt(Square(Elem(x,0)-Elem(y,0))+Square(Elem(x,1)-Elem(y,1)))",
    "g*Sqrt(SqNorm2(x)+SqNorm2(y)-2*(x|y))",
    "g*Powf(SqDist(x,y),0.5)",
    "Powf(g*g*SqDist(x,y),0.5)",
    "g*Square(Powf(SqDist(x,y),0.25))",
    "g*Sqrt(Norm2(x-y)*Norm2(x-y))",
    "g*Sqrt(Sqrt(Square(SqDist(x,y))))",
    "Abs(g*Norm2(y-x))",
    "g*SqDist(x,y)*Rsqrt(SqDist(x,y))",
    "Sqrt(3*(g*g*SqDist(x,y)))/Sqrt(3)",
    "Sqrt(5*SqDist(x,y))*(g/Sqrt(5))",
]
SQUARES = [  # its square, with {r} for the distance
    "Square({r})",
    "({r})**2",
    "({r})*({r})",
    "g*g*SqDist(x,y)",
    "Square(g)*SqNorm2(x-y)",
    "SqDist(x,y)/Inv(g*g)",
    "SqDist(g*x,g*y)",
    "WeightedSqDist(g*g,x,y)",
]


@dataclass(frozen=True)
class Kernel:
    """``text`` with {r} and {s} for rho and its square, ``value`` of rho; ``smooth`` times differentiable at 0."""

    name: str
    text: str
    value: object
    smooth: int


def kernel(name, text, value, smooth=99):
    return Kernel(name, text, value, smooth)


KERNELS = [
    kernel("Matern 3/2", "(1+{r})*Exp(-{r})", lambda r: (1 + r) * mp.exp(-r), 2),
    kernel("Matern 5/2", "(1+{r}+{s}/3)*Exp(-{r})", lambda r: (1 + r + r**2 / 3) * mp.exp(-r), 4),
    kernel("Matern 7/2", "(1+{r}+2*{s}/5+{r}*{s}/15)*Exp(-{r})",
           lambda r: (1 + r + 2 * r**2 / 5 + r**3 / 15) * mp.exp(-r), 6),
    kernel("Matern 5/2, a quotient", "(1+{r}+{s}/3)/Exp({r})", lambda r: (1 + r + r**2 / 3) * mp.exp(-r), 4),
    kernel("Matern 5/2, expanded", "Exp(-{r})+{r}*Exp(-{r})+{s}*Exp(-{r})/3",
           lambda r: (1 + r + r**2 / 3) * mp.exp(-r), 4),
    kernel("Gaussian", "Exp(-{s})", lambda r: mp.exp(-(r**2))),
    kernel("Gaussian of a root", "Exp(-{r}*{r})", lambda r: mp.exp(-(r**2))),
    kernel("Cauchy", "Inv(1+{s})", lambda r: 1 / (1 + r**2)),
    kernel("rational quadratic", "Powf(1+{s}/3,-1.5)", lambda r: (1 + r**2 / 3) ** mp.mpf(-1.5)),
    kernel("inverse multiquadric", "Rsqrt(1+({r})**2)", lambda r: 1 / mp.sqrt(1 + r**2)),
    kernel("multiquadric", "Sqrt(1+{s})", lambda r: mp.sqrt(1 + r**2)),
    kernel("Wendland C2", "ReLU(1-{r}/9)**4*(4*{r}/9+1)", lambda r: (1 - r / 9) ** 4 * (4 * r / 9 + 1), 2),
    kernel("Wendland C4", "ReLU(1-{r}/9)**6*(35*{s}/81+18*{r}/9+3)",
           lambda r: (1 - r / 9) ** 6 * (35 * r**2 / 81 + 2 * r + 3), 4),
    kernel("Wendland C2, a choice", "IfElse(9-{r},Pow(1-{r}/9,4)*(4*{r}/9+1),0)",
           lambda r: (1 - r / 9) ** 4 * (4 * r / 9 + 1), 2),
    kernel("Wendland C2, clamped", "Clamp(1-{r}/9,0,1)**4*(4*{r}/9+1)",
           lambda r: (1 - r / 9) ** 4 * (4 * r / 9 + 1), 2),
    kernel("cosine", "Cos({r})", mp.cos),
    kernel("damped cosine", "Cos({r})*Exp(-{s}/2)", lambda r: mp.cos(r) * mp.exp(-(r**2) / 2)),
    kernel("sinc", "SinXDivX({r})", mp.sinc),
    kernel("derivative of sinc", "SinXDivX({r},1)*{r}", lambda r: (mp.cos(r) * r - mp.sin(r)) / r if r else mp.mpf(0)),
    kernel("sine times distance", "{r}*Sin({r})", lambda r: r * mp.sin(r)),
    kernel("hyperbolic secant", "2/(Exp({r})+Exp(-{r}))", mp.sech),
    kernel("log cosh", "Log(Exp({r})+Exp(-{r}))", lambda r: mp.log(2 * mp.cosh(r))),
    kernel("cubic", "({r})**3", lambda r: r**3, 2),
    kernel("cubic, a power", "Powf({s},1.5)", lambda r: r**3, 2),
    kernel("quintic", "{r}*{s}*{s}", lambda r: r**5, 4),
    kernel("stretched", "Exp(-Powf({s},1.5))", lambda r: mp.exp(-(r**3)), 2),
    kernel("Huber-like", "Log(1+{r})-{r}", lambda r: mp.log(1 + r) - r, 2),
    kernel("soft", "{r}-Log(1+{r})+Inv(1+{r})+{r}", lambda r: 2 * r - mp.log(1 + r) + 1 / (1 + r), 2),
]  # fmt: skip


@dataclass(frozen=True)
class Spelling:
    kernel: Kernel
    formula: str

    def __str__(self):
        return f"{self.kernel.name}: {self.formula}"


def spellings(count, seed=0):
    """The first of all spellings in an order that mixes them: every kernel, distance and square is among them."""
    found = {}
    for kernel in KERNELS:
        for r in DISTANCES:
            for s in SQUARES:
                formula = kernel.text.format(r=r, s=f"({s.format(r=r)})")
                found.setdefault(formula, Spelling(kernel, formula))
    chosen = list(found.values())
    random.Random(seed).shuffle(chosen)
    first = {spelling.kernel.name: spelling for spelling in reversed(chosen)}.values()
    return [*first, *(spelling for spelling in chosen if spelling not in first)][:count]


@cache
def taylor(kernel):
    """The Taylor coefficients of f at 0."""
    with mp.workdps(60):
        if kernel.name == "derivative of sinc":
            sinc = mp.taylor(mp.sinc, 0, 8)
            return [mp.mpf(k) * c for k, c in enumerate(sinc)][:8]
        return mp.taylor(kernel.value, mp.mpf(0), 7, singular=False)


def along(kernel, order, g=G):
    """The derivative of f(g*|t*v|) at t = 0, of an even order, for a unit vector v."""
    return float(mp.factorial(order) * taylor(kernel)[order] * mp.mpf(g) ** order) if order % 2 == 0 else 0.0


def away(kernel, u, v, order, g=G):
    """The derivative of f(g*|u + t*v|) at t = 0, for u that is not 0."""
    with mp.workdps(40):

        def line(t):
            return kernel.value(mp.mpf(g) * mp.sqrt(sum((a + t * b) ** 2 for a, b in zip(u, v, strict=True))))

        return float(mp.diff(line, 0, order))
