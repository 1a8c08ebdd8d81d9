"""Simple functions of the columns of a table, as a configuration writes them: "Q1 * Q2 < 0", "sqrt(px**2 + py**2)".

What may stand in one is listed here and checked before anything is evaluated (by numexpr): numbers, texts in quotes,
names of columns, arithmetic, comparisons joined by & | ~, and the functions of `FUNCTIONS`. Nothing else of Python.
"""

import ast
from collections.abc import Mapping
from typing import Any

import numexpr
import numpy as np
from numpy.typing import NDArray

FUNCTIONS = (
    *("sqrt", "exp", "log", "log10", "log1p", "expm1", "abs", "sin", "cos", "tan", "arcsin", "arccos", "arctan"),
    *("sinh", "cosh", "tanh", "arctan2", "where", "floor", "ceil"),
)
ALLOWED = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.Load),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.BitAnd, ast.BitOr, ast.Invert, ast.USub, ast.UAdd),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


def names_in(formula: str) -> list[str]:
    """The columns that a formula is of, each once. ValueError for what may not stand in one."""
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{formula!r} is no formula ({getattr(error, 'msg', error)})") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if id(node) in called:
            if not (isinstance(node, ast.Name) and node.id in FUNCTIONS):
                known = ", ".join(FUNCTIONS)
                raise ValueError(f"{formula!r}: {ast.unparse(node)} may not be called; functions are {known}")
        elif isinstance(node, ast.BoolOp):
            raise ValueError(f"{formula!r}: write (a) & (b) and (a) | (b), with brackets, in place of and, or")
        elif isinstance(node, ast.Compare) and len(node.ops) > 1:
            raise ValueError(f"{formula!r}: write (low < x) & (x < high) in place of low < x < high")
        elif isinstance(node, ast.operator | ast.cmpop | ast.unaryop) and not isinstance(node, ALLOWED):
            raise ValueError(f"{formula!r}: {type(node).__name__} may not stand in a formula")
        elif not isinstance(node, ALLOWED) or (isinstance(node, ast.Call) and node.keywords):
            raise ValueError(f"{formula!r}: {ast.unparse(node)} may not stand in a formula")
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(names))


def evaluate(formula: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The value of a formula for every event: (n_events,). columns: those of `names_in`, numbers or texts.

    Raises ValueError where it cannot be evaluated.

    >>> evaluate("(q0 * q1 < 0) & (kind == 'G')", {"q0": np.array([1, 1]), "q1": np.array([-1, 1]),
    ...     "kind": np.array(["G", "T"])})
    array([ True, False])
    """
    local = {name: values.astype("S") if values.dtype.kind in "UO" else values for name, values in columns.items()}
    if not local:
        raise ValueError(f"{formula!r} is of no column")
    try:
        values = numexpr.evaluate(formula.strip(), local_dict=local, global_dict={}, sanitize=False)
    except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError, UnicodeEncodeError) as error:
        raise ValueError(f"{formula!r} cannot be evaluated ({error})") from error
    n_events = len(next(iter(local.values())))
    if values.shape != (n_events,):
        raise ValueError(f"{formula!r} has {values.shape} values for {n_events} events")
    return np.asarray(values)
