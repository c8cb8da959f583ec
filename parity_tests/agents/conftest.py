"""Every test that takes `pair` runs over every registered pair, or over those of --parity-pair.

Tests that take `shipped` run over the shipped pairs; with --parity-pair they are deselected, and with them
all that take no pair. Each pair is on one worker, for its compilations.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from parity import Pair, registered
from parity.pytest_plugin import session_of
from parity_tests.agents import properties

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each pair that has the stage which the test is marked with."""
    chosen = session_of(metafunc.config).load()
    for name in {'pair', 'shipped'} & set(metafunc.fixturenames):
        pairs = chosen or registered() if name == 'pair' else registered()
        metafunc.parametrize(name, [_param(pair) for pair in pairs.values() if _has_stage(pair, metafunc)])


def _param(pair: Pair) -> object:
    return pytest.param(pair, id=pair.name, marks=pytest.mark.xdist_group(pair.name))


def _has_stage(pair: Pair, metafunc: pytest.Metafunc) -> bool:
    return all(pair.has(mark.args[0]) for mark in metafunc.definition.iter_markers('parity_stage'))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --parity-pair, leave out what is not about these pairs."""
    session = session_of(config)
    if not session.pairs:
        return
    ours = [item for item in items if HERE in item.path.parents]
    about = [item for item in ours if _is_about_a_pair(item)]
    others = {item for item in ours if item not in about}
    session.used, session.others = bool(about), len(others)
    config.hook.pytest_deselected(items=[item for item in items if item in others])
    items[:] = [item for item in items if item not in others]


def _is_about_a_pair(item: pytest.Item) -> bool:
    spec = getattr(item, 'callspec', None)
    return spec is not None and isinstance(spec.params.get('pair'), Pair)


@pytest.fixture(autouse=True)
def session(request: pytest.FixtureRequest) -> Iterator[None]:
    """Properties follow the options and record their verdicts."""
    with properties.following(session_of(request.config), request.node):
        yield
