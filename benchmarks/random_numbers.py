"""The time of 10**7 random numbers: `torch_agents.random` against jitted `jax.random`, in float32.

python -m benchmarks.random_numbers [--count 10000000] [--repeats 10] [--threads 2] [--clock cpu]
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import measuring


def main() -> None:
    options = arguments()
    measuring.use_threads(options.threads)
    rows = [measure(kind, options) for kind in ('uniform', 'normal')]
    for row in rows:
        print(
            f'{row["kind"]:8} reference {row["reference"] * 1e3:6.0f} ms, '
            f'port {row["port"] * 1e3:6.0f} ms, ratio {row["ratio"]:.2f}'
        )
    measuring.write('random_numbers', {'clock': options.clock, 'count': options.count, 'draws': rows})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--count', type=int, default=10**7)
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=measuring.CLOCKS, default='wall')
    return parser.parse_args()


def measure(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    works = {'reference': reference_draw(kind, options.count), 'port': port_draw(kind, options.count)}
    times = measuring.alternating(works, options.repeats, warm_up=1, clock=options.clock)
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {'kind': kind, **medians, 'ratio': measuring.ratio(times, 'port', 'reference')}


def reference_draw(kind: str, count: int) -> Callable[[], object]:
    import jax

    key = jax.random.PRNGKey(0)
    draw = jax.jit(lambda key: getattr(jax.random, kind)(key, (count,)))
    return lambda: draw(key).block_until_ready()


def port_draw(kind: str, count: int) -> Callable[[], object]:
    from torch_agents import random

    key = random.PRNGKey(0)
    return lambda: getattr(random, kind)(key, (count,))


if __name__ == '__main__':
    main()
