"""`parity run` turns red at the right stage for each of the four classic mistakes, and at none before it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parity.cli import app

BROKEN = 'parity_tests.engine.broken_ports'


def run(tmp_path: Path, pair: str, *stages: str) -> tuple[int, dict[str, str]]:
    """Exit code and outcome of each stage of `parity run` on one recorded and one generated case."""
    words = [word for stage in stages for word in ('--stage', stage)]
    arguments = ['run', f'{BROKEN}:{pair}', '--examples', '1', '--reports', str(tmp_path), '--no-locate']
    result = CliRunner().invoke(app, [*arguments, *words])
    index = json.loads((tmp_path / 'index.json').read_text())
    stages_found = index['pairs'][0]['stages']
    return result.exit_code, {name: entry['outcome'] for name, entry in stages_found.items()}


@pytest.mark.parametrize(
    ('pair', 'first_red'),
    [
        ('LAYER_NORM_EPSILON', 'forward'),
        ('MEAN_FOR_MIN', 'loss'),
        ('LEAKY_TARGET', 'grads'),
        ('TARGET_AFTER_STEP', 'update'),
        ('NONE_FOR_ZERO', 'update'),
    ],
)
def test_red_at_the_right_stage(tmp_path: Path, pair: str, first_red: str) -> None:
    stages = ('config', 'params', 'forward', 'loss', 'grads', 'update')
    before = stages[: stages.index(first_red)]
    code, outcomes = run(tmp_path, pair, *before, first_red)
    assert code == 1
    red = [stage for stage in (*before, first_red) if outcomes[f'{stage} float64'] == 'mismatch']
    assert red == [first_red]
    assert outcomes[f'{first_red} float32'] == 'mismatch'


def test_the_correct_port_is_green(tmp_path: Path) -> None:
    code, outcomes = run(tmp_path, 'IQL', 'forward', 'loss', 'grads', 'update')
    assert code == 0
    assert set(outcomes.values()) == {'match'}
