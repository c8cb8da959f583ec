"""Verdicts as JSON files: one per pair and an index, each written whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.report import files
from parity.verdict import Verdict, plain

FORMAT = 1


def write(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Write `<pair>.json` for each verdict, then `index.json`; returns the paths."""
    pages = {f'{files.stem(verdict.pair)}.json': as_text(report(verdict)) for verdict in verdicts}
    return files.write_all(folder, {**pages, 'index.json': as_text(index(verdicts))})


def report(verdict: Verdict) -> dict[str, Any]:
    """Everything in the verdict, with the version of this format."""
    return {'format': FORMAT, **verdict.as_dict()}


def index(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One entry per pair: its outcome, its file, and the worst leaf of each stage and precision."""
    return {
        'format': FORMAT,
        'pairs': [
            {
                'pair': verdict.pair,
                'outcome': verdict.outcome,
                'file': f'{files.stem(verdict.pair)}.json',
                'cases': len(verdict.cases),
                'generated': verdict.generated,
                'leaves': verdict.compared,
                'seconds': round(verdict.seconds, 1),
                'stages': plain(worst_of_stages(verdict)),
            }
            for verdict in verdicts
        ],
    }


def worst_of_stages(verdict: Verdict) -> dict[str, dict[str, Any]]:
    """`{'grads float64': {outcome, margin, path, case}}`, over all cases."""
    worst: dict[str, dict[str, Any]] = {}
    for case, stage in verdict.stages():
        margin = stage.worst.margin if stage.worst else 0.0
        name = f'{stage.stage} {stage.dtype}'
        entry = {
            'outcome': stage.outcome,
            'margin': margin,
            'path': stage.worst.path if stage.worst else '',
            'case': case.description,
        }
        known = worst.get(name)
        if known is None or _badness(entry) > _badness(known):
            worst[name] = entry
    return worst


def _badness(entry: dict[str, Any]) -> tuple[int, float]:
    return ('match', 'not_run', 'mismatch', 'error').index(entry['outcome']), entry['margin']


def as_text(content: dict[str, Any]) -> str:
    """Plain values as one line of JSON."""
    # without indentation, which Python's encoder writes ten times more slowly: 100,000 leaves are for tools
    return json.dumps(content, allow_nan=False) + '\n'
