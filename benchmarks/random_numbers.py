"""The time of 10**7 random numbers: `torch_agents.random` against jitted `jax.random`, in float32.

    python -m benchmarks.random_numbers [--count 10000000] [--repeats 10] [--threads 2] [--clock cpu]
    python -m benchmarks.random_numbers --compiled
    python -m benchmarks.random_numbers --device cuda

With `--compiled` the port draws after `random.compile()`; on a GPU it always compiles, and torch's own
generator, `torch.rand` and `torch.randn`, is measured as well.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import measuring


def main() -> None:
    options = arguments()
    measuring.use(options.device, options.threads)
    if options.compiled:
        compile_draws()
    rows = [measure(kind, options) for kind in ('uniform', 'normal')]
    for row in rows:
        medians = ', '.join(f'{side} {seconds * 1e3:.2f} ms' for side, seconds in row['seconds'].items())
        ratios = ', '.join(f'{ratio:.2f} of {side}' for side, ratio in row['ratios'].items())
        print(f'{row["kind"]:8} {medians}; port {ratios}')
    compiled = '_compiled' if options.compiled else ''
    measuring.write(f'random_numbers_{options.device}{compiled}', {**vars(options), 'draws': rows})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--count', type=int, default=10**7)
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--compiled', action='store_true')
    parser.add_argument('--clock', choices=measuring.CLOCKS, default='wall')
    return parser.parse_args()


def measure(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: median seconds, and the port's ratio to each of the others."""
    works = {
        'reference': reference_draw(kind, options.count),
        'port': port_draw(kind, options.count, options.device),
    }
    if options.device != 'cpu':
        works['torch'] = torch_draw(kind, options.count, options.device)
    times = measuring.alternating(works, options.repeats, warm_up=1, clock=options.clock)
    medians = {side: statistics.median(values) for side, values in times.items()}
    ratios = {side: measuring.ratio(times, 'port', side) for side in times if side != 'port'}
    return {'kind': kind, 'seconds': medians, 'ratios': ratios}


def reference_draw(kind: str, count: int) -> Callable[[], object]:
    import jax

    key = jax.random.PRNGKey(0)
    draw = jax.jit(lambda key: getattr(jax.random, kind)(key, (count,)))
    return lambda: draw(key).block_until_ready()


def port_draw(kind: str, count: int, device: str) -> Callable[[], object]:
    from torch_agents import random

    key = random.PRNGKey(0).to(device)
    return measuring.waiting(lambda: getattr(random, kind)(key, (count,)), device)


def compile_draws() -> None:
    from torch_agents import random

    random.compile()


def torch_draw(kind: str, count: int, device: str) -> Callable[[], object]:
    import torch

    draw = {'uniform': torch.rand, 'normal': torch.randn}[kind]
    return measuring.waiting(lambda: draw(count, device=device), device)


if __name__ == '__main__':
    main()
