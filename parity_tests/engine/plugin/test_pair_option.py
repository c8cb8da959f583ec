"""--parity-pair: the properties of parity_tests.agents, on pairs of one's own."""

from parity_tests.engine.plugin.conftest import ROOT, Run

pytest_plugins = 'pytester'
SUITE = str(ROOT / 'parity_tests' / 'agents')
MODULE = """
    import dataclasses
    from parity_tests.engine.model_pairs import EQUINOX, EQUINOX_DAMPENING

    PAIR = dataclasses.replace(EQUINOX, name='mine')
    BROKEN = dataclasses.replace(EQUINOX_DAMPENING, name='broken')
"""
FILES = [f'{SUITE}/test_{name}.py' for name in ('networks', 'updates', 'actions', 'recorded', 'goldens')]


def test_properties_run_on_ones_own_pairs(run: Run) -> None:
    words = [f'--parity-pair=test_properties_run_on_ones_own_pairs:{name}' for name in ('PAIR', 'BROKEN')]
    result = run(MODULE, *words, '--parity-examples=2', '-rs', *FILES, process=True)
    counts = result.parseoutcomes()
    assert (counts['passed'], counts['failed'], counts['skipped']) == (3, 1, 4)
    result.stdout.fnmatch_lines_random(
        [
            '*MismatchError: broken: update differs in float64*',
            '*next: parity check test_properties_run_on_ones_own_pairs:BROKEN --seed*',
            'mine: match in *',
            'broken: mismatch in *',
            '* tests deselected: they are about the shipped agents, not about --parity-pair',
            'SKIPPED * mine has no stage actions',
            'SKIPPED * the batch of mine is not one of transitions',
        ]
    )
    assert counts['deselected'] > 10


def test_without_the_option_nothing_is_deselected(run: Run) -> None:
    result = run('', '--collect-only', '-qq', FILES[-1], f'{SUITE}/test_networks.py', process=True)
    result.stdout.fnmatch_lines_random(['*test_goldens.py: *', '*test_networks.py: 21'])
    result.stdout.no_fnmatch_line('*deselected*')


def test_a_pair_that_cannot_be_loaded_is_refused_before_anything_runs(run: Run) -> None:
    result = run('', '--parity-pair=no.such.module:PAIR', FILES[0], process=True)
    result.stdout.fnmatch_lines_random(["*cannot load 'no.such.module:PAIR'*"])
    assert 'passed' not in result.parseoutcomes()


def test_no_effect_is_said(run: Run) -> None:
    result = run('def test_it(): pass', '--parity-pair=a:B')
    result.stdout.fnmatch_lines(['--parity-pair has no effect on these tests; next: *--pyargs*'])
