"""Changed modules are loaded from a folder of their own, and only for a while."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.mutating.loading import replaced
from parity.mutating.sources import sources_of
from parity.pair import Pair
from parity_tests.engine.planting import Substitution, planted

PORT = """
from shop import helper


def total():
    from shop import late

    return helper.VALUE + late.MORE
"""
FILES = {
    '__init__.py': '',
    'helper.py': 'VALUE = 1\n',
    'port.py': PORT,
    'late.py': 'MORE = 10\n',
    'other.py': 'import helper\n',
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `shop` that can be imported for one test."""
    folder = tmp_path / 'shop'
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition('.')[0] == 'shop']:
        del sys.modules[name]


def test_what_imports_a_changed_module_sees_it_and_only_within(shop: Path) -> None:
    before = importlib.import_module('shop.port')
    with replaced({'shop.helper': 'VALUE = 2\n'}):
        assert importlib.import_module('shop.port').total() == 12
        assert before.total() == 11
    assert importlib.import_module('shop.port') is before
    assert before.total() == 11


def test_the_files_stay_as_they_are(shop: Path) -> None:
    with replaced({'shop.helper': 'VALUE = 2\n', 'shop.late': 'MORE = 20\n'}) as folder:
        assert importlib.import_module('shop.port').total() == 22
        assert (folder / 'shop' / 'helper.py').read_text() == 'VALUE = 2\n'
    assert {name: (shop / name).read_text() for name in FILES} == FILES
    assert not folder.exists()


def test_the_texts_lie_where_a_run_cleans_up_after_trials_that_it_ends(shop: Path, tmp_path: Path) -> None:
    with replaced({'shop.helper': 'VALUE = 2\n'}, tmp_path) as folder:
        assert folder.parent == tmp_path


def test_a_module_without_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'lonely.py').write_text('VALUE = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    with replaced({'lonely': 'VALUE = 2\n'}):
        assert importlib.import_module('lonely').VALUE == 2
    assert 'lonely' not in sys.modules


def test_what_a_changed_module_raises_leaves_everything_as_it_was(shop: Path) -> None:
    before = importlib.import_module('shop.port')
    with pytest.raises(ZeroDivisionError), replaced({'shop.helper': '1 / 0\n'}):
        importlib.import_module('shop.port')
    assert importlib.import_module('shop.port') is before
    assert sys.meta_path == [finder for finder in sys.meta_path if 'mutating' not in type(finder).__module__]


def test_the_sources_of_a_port_are_what_it_imports_from_its_package(shop: Path) -> None:
    pair = Pair('shop', reference='json:loads', port='shop.port:total', batch={})
    assert [source.file for source in sources_of(pair)] == ['shop/port.py', 'shop/helper.py', 'shop/late.py']


def test_bugs_are_planted_in_every_module_that_sees_them() -> None:
    with planted('iql', Substitution('layers.py', 'return F.relu(x)', 'return -F.relu(x)')) as plant:
        layers = sys.modules[f'{plant.pair.load("port").__module__.partition(".")[0]}.layers']
        assert 'return -F.relu(x)' in Path(layers.__file__ or '').read_text()
    assert (
        'return F.relu(x)' in Path(importlib.import_module('torch_agents.layers').__file__ or '').read_text()
    )
