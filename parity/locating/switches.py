"""Conditions that are written as constants: `if True`, where the original asks a switch.

No value tells which line is wrong where a branch is always taken, or never: what parts is what the branch
computes, and what was asked is gone.
"""

import ast
import functools
from collections.abc import Iterator

from parity.locating.calls import called
from parity.locating.counterfactuals import found_or_none, source_at
from parity.locating.divergence import Finding, Place
from parity.locating.initial import made_anew
from parity.locating.sources import Line, nodes_of
from parity.runs import Runs


def never_asked(runs: Runs, stage: str) -> list[Finding]:
    """The constant conditions in the files of the port that run when it is made and does a stage."""
    functions = called(lambda: made_anew(runs).stage(stage), [runs.pair.load('port')])
    files = dict.fromkeys(function.__code__.co_filename for function in functions)
    return [_finding(stage, *found) for file in files for found in _constants(file)]


def _constants(file: str) -> Iterator[tuple[Line, bool]]:
    """Where they are, and what they are."""
    for node in nodes_of(file):
        if isinstance(node, ast.If | ast.IfExp) and isinstance(node.test, ast.Constant):
            source = found_or_none(functools.partial(source_at, file, node.test.lineno))
            if source:
                yield source.line_of(node.test), bool(node.test.value)


def _finding(stage: str, line: Line, value: bool) -> Finding:
    why = f'nothing is asked: the branch is {"always" if value else "never"} taken'
    return Finding(0, 'value', stage, '', Place.of(line), None, why)
