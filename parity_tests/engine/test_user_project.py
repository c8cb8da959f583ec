"""A user's project, with the wheel in an environment of its own: its tests, its pairs, our properties.

The environment has parity from the built wheel alone; it borrows what parity depends on from this one.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = Path(__file__).parent / 'user_project'
PACKAGES = ('reference_jax', 'torch_agents', 'weight_bridge', 'parity', 'parity_tests', 'fixtures')
Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.skipif(not (ROOT / 'pyproject.toml').exists(), reason='not in a source tree'),
    pytest.mark.xdist_group('user project'),
]


@pytest.fixture(scope='module')
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run a command of the environment in the project's folder."""
    started, folder = time.perf_counter(), tmp_path_factory.mktemp('user')
    source, project, place = folder / 'source', folder / 'project', folder / 'venv'
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md'):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'))
    python = create(place)
    pip = [sys.executable, '-m', 'pip', '--python', str(python), '-q', '--no-input']
    offline = ['--no-deps', '--no-index', '--no-build-isolation']
    subprocess.run([*pip, 'wheel', *offline, '-w', folder, source], check=True)
    (wheel,) = folder.glob('parity-*.whl')
    subprocess.run([*pip, 'install', *offline, wheel, project], check=True)
    print(f'environment made in {time.perf_counter() - started:.0f} s')
    environment = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
    environment['PYTEST_ADDOPTS'] = '-p no:cacheprovider'

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [place / 'bin' / name, *words]
        return subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


def create(place: Path) -> Path:
    """An environment that borrows this one's packages, but none that this one has in editable form."""
    venv.create(place, with_pip=False)
    home = sysconfig.get_path('purelib', vars={'base': str(place), 'platbase': str(place)})
    borrowed = [*site.getsitepackages(), sysconfig.get_path('platlib')]
    # a .pth file in a folder that a .pth file names is not read: editable packages stay behind
    Path(home, 'borrowed.pth').write_text('\n'.join(dict.fromkeys(borrowed)))
    return place / 'bin' / 'python'


def test_parity_is_that_of_the_wheel(command: Command) -> None:
    where = command('python', '-c', 'import parity; print(parity.__file__)')
    assert '/venv/lib' in where.stdout, where.stdout + where.stderr


def test_its_tests_use_the_plugin(command: Command) -> None:
    done = command('python', '-m', 'pytest', '--parity-dtype=float64')
    assert done.returncode == 1, done.stdout + done.stderr
    assert '1 failed, 2 passed' in done.stdout
    assert 'exact_gelu: forward differs in float64: value of output' in done.stdout
    assert 'sentiment: match in 2 cases' in done.stdout
    assert 'attention: match in 1 cases' in done.stdout


def test_its_pair_is_registered(command: Command) -> None:
    listed = command('parity', 'list')
    assert {'sentiment', 'iql'} <= set(listed.stdout.split())
    checked = command('parity', 'check', 'sentiment', '--stage', 'loss', '--dtype', 'float64')
    assert checked.returncode == 0, checked.stdout + checked.stderr
    loose = command('parity', 'list', 'tests.test_port:CASES')  # not installed, but in the folder
    assert 'tests.test_port:CASES is not a pair' in loose.stderr


def test_our_properties_run_on_its_pairs(command: Command) -> None:
    words = [f'--parity-pair=sentiment.pairs:{name}' for name in ('SENTIMENT', 'EXACT_GELU')]
    words += ['-k', 'networks', '--parity-examples=2', '-W', 'error']
    done = command('python', '-m', 'pytest', '--pyargs', 'parity_tests.agents', *words)
    assert '1 failed, 1 passed' in done.stdout, done.stdout + done.stderr
    assert 'sentiment: match in 2 cases' in done.stdout
    assert 'next: parity check sentiment.pairs:EXACT_GELU --seed' in done.stdout
