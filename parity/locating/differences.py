"""What two functions of the same meaning say otherwise, and the changes that make the port's say the same."""

import ast
import copy
import dataclasses
import itertools
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from parity.locating.candidates import preceded, rewrite, without
from parity.locating.counterfactuals import Counterfactual, Source
from parity.locating.lines import likeness
from parity.locating.scopes import MODULES, translated
from parity.locating.syntax import call_name, rewritten

UNLIKE = "unlike the reference's line"
# What means nothing in a port.
JAX = re.compile(r'\b(jax|jnp)\b')


# How alike the port and the reference count where one of them has a statement that the other has not.
LEFT_OUT = 0.5


class Difference(NamedTuple):
    """Something that the port says otherwise, undone, and how alike the two statements are, from 0 to 1.

    A mistake is a small difference; another way to say the same is a large one.
    """

    change: Counterfactual
    likeness: float


def differences(source: Source, reference: Source) -> list[Counterfactual]:
    """What the port's function says otherwise, as in the reference, the most alike statements first."""
    return in_order(told(source, reference))


def in_order(found: Iterable[Difference]) -> list[Counterfactual]:
    """The changes, those of the most alike statements first; of one statement the smallest first."""
    return [one.change for one in sorted(found, key=lambda one: -one.likeness)]


def told(source: Source, reference: Source) -> Iterator[Difference]:
    """The differences in the order of the port's statements."""
    known = source.function.__globals__
    ours, theirs = list(_statements(source.tree.body)), list(_statements(reference.tree.body))
    for start, stop, first, last in _blocks(ours, theirs, known):
        mine, its = ours[start:stop], theirs[first:last]
        places = [*(one for one in mine if isinstance(one, ast.Pass)), *ours[stop : stop + 1]]
        if its and places and {*map(_key, mine)}.isdisjoint(map(_key, its)):
            text = '\n'.join(translated(one, known) for one in its)
            yield _said(preceded(source, places[0], text), LEFT_OUT, reference, its[0])
        if not its:
            yield from (Difference(without(source, one), LEFT_OUT) for one in mine)
        for own, other in zip(mine, its, strict=False):
            alike = _likeness(own, other, known)
            pairs = zip(_expressions(own), _expressions(other), strict=False)
            for node, part, text in (parts for pair in pairs for parts in _parts(*pair, known)):
                yield _said(rewrite(source, _name(own, node, text), node, text), alike, reference, part)


def _blocks(
    ours: Sequence[ast.stmt], theirs: Sequence[ast.stmt], known: Collection[str]
) -> Iterator[tuple[int, int, int, int]]:
    """(start, stop) of ours and of theirs that correspond: pairs of statements, and what is between them.

    As many pairs of the same meaning as there can be, in order, and of these the most alike: which of several
    assignments to a name is missing shows in what they say.
    """
    pairs = [*_pairs(ours, theirs, known), (len(ours), len(theirs))]
    start = first = 0
    for stop, last in pairs:
        if (start, first) != (stop, last):
            yield start, stop, first, last
        start, first = stop + 1, last + 1
        if stop < len(ours):
            yield stop, start, last, first


def _pairs(
    ours: Sequence[ast.stmt], theirs: Sequence[ast.stmt], known: Collection[str]
) -> list[tuple[int, int]]:
    """The longest common subsequence by `_key`, of those the one with the greatest sum of likenesses."""
    keys = [_key(one) for one in ours], [_key(one) for one in theirs]
    # of ours from i on and theirs from j on: the best score, and its pairs, each with those after it
    best: list[list[tuple[float, Any]]] = [[(0.0, ())] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, j in itertools.product(reversed(range(len(ours))), reversed(range(len(theirs)))):
        options = [best[i + 1][j], best[i][j + 1]]
        if keys[0][i] == keys[1][j]:
            score, rest = best[i + 1][j + 1]
            score += len(ours) + _likeness(
                ours[i], theirs[j], known
            )  # a pair counts more than all likenesses
            options.insert(0, (score, ((i, j), rest)))
        best[i][j] = max(options, key=operator.itemgetter(0))
    found, (_, chain) = [], best[0][0]
    while chain:
        pair, chain = chain
        found.append(pair)
    return found


def _likeness(own: ast.stmt, other: ast.stmt, known: Collection[str]) -> float:
    """How alike two statements are, from 0 to 1: their least alike expressions are."""
    pairs = zip(_expressions(own), _expressions(other), strict=False)
    return min((likeness(ast.unparse(a), translated(b, known)) for a, b in pairs), default=1.0)


def _said(change: Counterfactual, alike: float, reference: Source, node: ast.stmt | ast.expr) -> Difference:
    """A difference from what the reference says."""
    return Difference(dataclasses.replace(change, reference=reference.line_of(node)), alike)


def _statements(block: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements in their order, those inside others after their heads; no docstrings."""
    for statement in block:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            yield statement
        for name in ('body', 'orelse'):
            yield from _statements(getattr(statement, name, ()))


def _key(statement: ast.stmt) -> str:
    """What statements of the same meaning have in common."""
    words = [type(statement).__name__]
    if isinstance(statement, ast.Assign):
        words += map(ast.unparse, statement.targets)
    if isinstance(statement, ast.FunctionDef):
        words += [statement.name]
    if isinstance(statement, ast.Expr):
        words += [call_name(statement.value)]
    return ' '.join(words)


def _expressions(statement: ast.stmt) -> list[ast.expr]:
    """Those of a statement itself."""
    return [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.expr)]


def _parts(mine: ast.expr, its: ast.expr, known: Collection[str]) -> Iterator[tuple[ast.expr, ast.expr, str]]:
    """(a part of the port's expression, the reference's, its text) where they differ, inner ones first."""
    if _same(mine, its, known):
        return
    ours, theirs = ([*ast.iter_child_nodes(one)] for one in (mine, its))
    if isinstance(mine, ast.Call) and isinstance(its, ast.Call):
        ours, theirs = _arguments(mine, its)
    elif type(mine) is not type(its) or len(ours) != len(theirs):
        ours = theirs = []
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, ast.expr) and isinstance(b, ast.expr):
            yield from _parts(a, b, known)
    if not isinstance(its, ast.Starred | ast.Slice):  # these are no expressions by themselves
        text = translated(its, known)
        yield from [] if JAX.search(text) else [(mine, its, text)]


def _arguments(mine: ast.Call, its: ast.Call) -> tuple[list[ast.AST], list[ast.AST]]:
    """The functions of two calls and the arguments that both have."""
    named = {keyword.arg: keyword.value for keyword in its.keywords}
    pairs = [(mine.func, its.func), *zip(mine.args, its.args, strict=False)]
    pairs += [(one.value, named[one.arg]) for one in mine.keywords if one.arg in named]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _same(mine: ast.expr, its: ast.expr, known: Collection[str]) -> bool:
    """Whether two expressions say the same, but for how the frameworks call things."""
    texts = ast.unparse(mine), ast.unparse(its)
    return texts[0] == translated(its, known) or len({MODULES.sub('', text) for text in texts}) == 1


def _name(statement: ast.stmt, mine: ast.expr, its: str) -> str:
    """What the mistake is called that a difference in a statement would be."""
    if isinstance(statement, ast.If):
        return 'condition'
    if isinstance(mine, ast.Tuple) and isinstance(mine.ctx, ast.Store):
        return 'order of names'
    return 'other key' if _but_for_text(mine) == _but_for_text(rewritten(its)) else UNLIKE


class _Blank(ast.NodeTransformer):
    """Empty strings for all strings, formatted ones among them."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant('') if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant('')


def _but_for_text(expression: ast.expr) -> str:
    """An expression with nothing in the places of its strings."""
    return ast.dump(_Blank().visit(copy.deepcopy(expression)))
