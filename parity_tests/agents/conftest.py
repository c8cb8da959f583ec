"""Every test that takes `pair` runs over every registered pair, each on one worker, for its compilations."""

import pytest

from parity import registered


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each registered pair."""
    if 'pair' in metafunc.fixturenames:
        pairs = [
            pytest.param(pair, id=name, marks=pytest.mark.xdist_group(name))
            for name, pair in registered().items()
        ]
        metafunc.parametrize('pair', pairs)
