"""How the time and the memory of a check grow: against batch size, hidden size and the number of leaves.

    python -m benchmarks.growth [--full] [--threads 2]

Batch and hidden sizes are those of iql's stages loss and grads, the leaves those of a function of a tree, the
values those of one leaf that is compared, without its arrays: they are views of one number. Each check runs
twice; the second time, without compilation, counts. `bytes` is how far the peak of the process's memory rose
above what it used before (VmHWM, on Linux). Without `--full` the two largest sizes of each are left out.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import parity
from benchmarks import measuring
from benchmarks.bridge_copy import memory
from parity.comparison import compare
from parity.tolerances import Tolerance

SIZES = {
    'B': (32, 128, 512, 1024, 4096),
    'hidden size': (64, 128, 256, 512, 1024, 2048),
    'leaves': (10, 100, 1000, 10_000),
    'values': (10**6, 10**7, 10**8, 10**9),
}


def main() -> None:
    options = arguments()
    measuring.use_threads(options.threads)
    checks = {
        'B': check_batch,
        'hidden size': check_hidden,
        'leaves': check_leaves,
        'values': compare_values,
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for axis, sizes in SIZES.items():
        rows[axis] = [measure(axis, size, checks[axis]) for size in (sizes if options.full else sizes[:-2])]
    measuring.write('growth', rows)
    plot(rows, measuring.REPORTS / 'growth.svg')


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--full', action='store_true', help='the largest sizes as well: minutes')
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


def measure(axis: str, size: int, check: Callable[[int], None]) -> dict[str, Any]:
    check(size)
    before = memory('VmRSS')
    took = measuring.seconds(lambda: check(size))
    row = {'size': size, 'seconds': took, 'bytes': memory('VmHWM') - before}
    print(f'{axis:12} {size:6}: {took:7.2f} s, {row["bytes"] / 1e6:6.0f} MB')
    return row


def check_batch(size: int) -> None:
    case = parity.Case(sizes={'B': size, 'O': 17, 'A': 6})
    parity.check('iql', cases=[case], stages=['loss', 'grads']).raise_if_mismatch()


def check_hidden(size: int) -> None:
    config = {'actor_hidden_dims': (size, size), 'value_hidden_dims': (size, size)}
    parity.check('iql', cases=[parity.Case(config=config)], stages=['loss', 'grads']).raise_if_mismatch()


def check_leaves(count: int) -> None:
    tree = {f'leaf_{i}': np.full(8, i, np.float32) for i in range(count)}

    def doubled(tree: dict[str, Any]) -> dict[str, Any]:
        return {name: 2 * leaf for name, leaf in tree.items()}

    parity.check_functions(doubled, doubled, (tree,), name='doubled').raise_if_mismatch()


def compare_values(count: int) -> None:
    arrays = ({'leaf': np.broadcast_to(np.float32(value), (count // 1000, 1000))} for value in (1, 2, 1))
    (leaf,) = compare(*arrays, {'leaf': Tolerance(2.0, 'more than the difference')})
    assert leaf.margin == 0.5


def plot(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One plot per axis: seconds and MB, both axes logarithmic, where linear growth has slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(rows), 3.4), layout='constrained')
    for axes, (axis, points) in zip(figure.subplots(1, len(rows)), rows.items(), strict=True):
        sizes = [point['size'] for point in points]
        axes.loglog(sizes, [point['seconds'] for point in points], 'o-', label='seconds')
        axes.loglog(sizes, [point['bytes'] / 1e6 for point in points], 's--', label='MB')
        axes.set_xlabel(axis)
        axes.legend()
    figure.savefig(path)


if __name__ == '__main__':
    main()
