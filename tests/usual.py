"""The usual formulas as most tests write them, and the variables that stand in them."""

GAUSS = "Exp(-SqDist(x,y))*b"
SCALED_GAUSS = "Exp(-g*SqDist(x,y))*b"
LAPLACE = "Exp(-Norm2(x-y))*b"
SCALED_LAPLACE = "Exp(-g*Norm2(x-y))*b"
MATERN = "(1+g*Norm2(x-y))*Exp(-g*Norm2(x-y))*b"  # 3/2


def aliases(D, columns, *numbers):
    """Declarations of points x_i and y_j in D dimensions, of vectors b_j with that many columns, and of numbers."""
    return [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({columns})", *(f"{name} = Pm(1)" for name in numbers)]
