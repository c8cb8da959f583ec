"""Settings of the whole suite: compile fast, one torch thread per worker, deterministic examples in CI."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from parity import backends

backends.prepare()
# jax does not write its cache atomically: no worker may read what another is writing
WORKER, CACHE = os.environ.get('PYTEST_XDIST_WORKER'), os.environ.get('JAX_COMPILATION_CACHE_DIR')
if WORKER and CACHE:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(CACHE, WORKER)
torch.set_num_threads(1)

COMMON = {'deadline': None, 'suppress_health_check': list(hypothesis.HealthCheck), 'print_blob': True}
hypothesis.settings.register_profile('ci', max_examples=10, derandomize=True, database=None, **COMMON)
hypothesis.settings.register_profile('soak', max_examples=200, **COMMON)
hypothesis.settings.load_profile(os.environ.get('PARITY_PROFILE', 'ci'))


# What checks iql, or broken ports of it, as most tests without a pair do: its programs are on its worker.
WITH_IQL = (
    'agents',
    'test_broken_ports',
    'test_cli',
    'test_differences',
    'test_execution',
    'test_html_report',
    'test_junit',
    'test_locate',
    'test_locate_command',
    'test_locate_page',
    'test_runs',
    'test_shrinking',
)
GROUP = pytest.StashKey[str]()  # of the last test


def group_of(item: pytest.Item) -> str:
    """The tests of a group run on one worker, and share what they compile; '' for none."""
    marker = item.get_closest_marker('xdist_group')
    return marker.args[0] if marker else ''


@pytest.hookimpl(tryfirst=True)  # pytest-xdist puts the groups into the names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what is in no group of its own."""
    for item in items:
        if not group_of(item) and {item.path.parent.name, item.path.stem} & {*WITH_IQL}:
            item.add_marker(pytest.mark.xdist_group('iql'))


@pytest.fixture(autouse=True)
def on_the_worker_of_its_group(request: pytest.FixtureRequest) -> None:
    """Fail where pytest-xdist cannot name groups (pytest 9.2.0): each worker would compile what all need."""
    group, name = group_of(request.node), request.node.nodeid
    if group and WORKER and request.config.getoption('loadgroup', False) and '@' not in name:
        pytest.fail(
            f'pytest {pytest.__version__} ignores xdist_group: expected @{group} at the end of {name}; '
            'pip install -c constraints.txt pytest'
        )


@pytest.fixture(autouse=True)
def enough_memory_maps() -> Iterator[None]:
    """Drop compiled programs before XLA runs out of memory maps, which ends the process."""
    yield
    backends.release_if_crowded()


@pytest.fixture(autouse=True)
def programs_of_one_group(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled programs live as long as tests of one group follow each other, commands of parity included.

    Commands run in the process of their test: the workers take all cores.
    """
    group = group_of(request.node)
    if group != request.config.stash.get(GROUP, group):
        backends.release()
    request.config.stash[GROUP] = group
    monkeypatch.setattr(backends, 'release', lambda: None)
    monkeypatch.setattr(os, 'cpu_count', lambda: 1)
