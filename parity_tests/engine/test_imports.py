"""Importing the engine or the bridge imports no framework, and nothing of an optional extra."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import parity

HEAVY = ['jax', 'jaxlib', 'torch', 'flax', 'optax', 'reference_jax', 'torch_agents']
OPTIONAL = ['libcst', 'gymnasium', 'mujoco']
LIST = f'; import json, sys; print(json.dumps([name for name in {HEAVY + OPTIONAL} if name in sys.modules]))'


def imported_by(code: str, path: Path) -> list[str]:
    """The heavy packages that are loaded after this code."""
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.insert(0, {str(path)!r}); {code}{LIST}'],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    'code',
    ['import parity.cli, parity.runs, parity.strategies, parity.pytest_plugin', 'import weight_bridge'],
)
def test_no_framework_is_imported(code: str, tmp_path: Path) -> None:
    assert imported_by(code, tmp_path) == []


def test_the_package_itself_imports_nothing_before_it_is_used(tmp_path: Path) -> None:
    code = 'import parity; import sys; assert not [n for n in sys.modules if n.startswith("parity.")]'
    assert imported_by(code, tmp_path) == []


def test_every_name_of_the_package_is_there_and_none_is_a_module() -> None:
    """An imported module takes the place of the same name: `parity.check` must stay the function."""
    modules = {module.name for module in pkgutil.iter_modules(parity.__path__)}
    assert not modules & set(parity.__all__)
    assert all(getattr(parity, name) is not None for name in parity.__all__)
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        parity.chekc  # noqa: B018


def test_without_libcst_mutate_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / 'libcst.py').write_text("raise ModuleNotFoundError('No module named libcst')")
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r}); from parity.cli import main; main()'
    done = subprocess.run([sys.executable, '-c', code, 'mutate', 'iql'], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'parity[mutate]'" in done.stderr


def test_twin_an_import_is_seen(tmp_path: Path) -> None:
    for name in ('jax', 'torch'):
        (tmp_path / f'{name}.py').write_text('')
    assert imported_by('import parity, torch, jax', tmp_path) == ['jax', 'torch']
