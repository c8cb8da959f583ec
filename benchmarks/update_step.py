"""The time of an update: the port against the jitted reference, at the default configuration, in float32.

    python -m benchmarks.update_step [AGENT ...] [--repeats 30] [--threads 2] [--clock cpu]

Both sides take turns; a ratio is the median of the quotients of neighbours. The share of the peak is the
floating-point rate of the update's matmuls over that of one large matmul, measured in the same run.
"""

import argparse
import functools
import math
import statistics
from typing import Any

from benchmarks import measuring

METHODS = ('pretrain', 'finetune')


def main() -> None:
    options = arguments()
    measuring.use_threads(options.threads)
    peak = matmul_peak(options.clock)
    print(f'{"update":24} {"reference":>10} {"port":>10} {"ratio":>6} {"share of peak":>14}')
    rows = [measure(name, method, peak, options) for name in options.agents or agents() for method in METHODS]
    mean = geometric_mean([row['ratio'] for row in rows])
    print(f'geometric mean {mean:.2f}; matmul peak {peak / 1e9:.0f} GFLOP/s')
    measuring.write(
        'update_step', {'clock': options.clock, 'peak': peak, 'updates': rows, 'geometric_mean': mean}
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('agents', nargs='*')
    parser.add_argument('--repeats', type=int, default=30)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=measuring.CLOCKS, default='wall')
    return parser.parse_args()


def agents() -> list[str]:
    import torch_agents

    return list(torch_agents.agents)


def measure(name: str, method: str, peak: float, options: argparse.Namespace) -> dict[str, Any]:
    """One row: median seconds of each side, their ratio, and what the port's matmuls make of the peak."""
    config, batch = measuring.example(name)
    works = {side: measuring.update_of(side, name, method, config, batch) for side in ('reference', 'port')}
    times = measuring.alternating(works, options.repeats, clock=options.clock)
    medians = {side: statistics.median(values) for side, values in times.items()}
    row = {
        'agent': name,
        'method': method,
        **medians,
        'ratio': measuring.ratio(times, 'port', 'reference'),
        'share_of_peak': flops(works['port']) / medians['port'] / peak,
    }
    print(
        f'{name + " " + method:24} {row["reference"] * 1e3:7.1f} ms {row["port"] * 1e3:7.1f} ms '
        f'{row["ratio"]:6.2f} {row["share_of_peak"]:13.0%}',
        flush=True,
    )
    return row


def flops(update: Any) -> int:
    """The floating-point operations of the matmuls of one update."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        update()
    return counter.get_total_flops()


def matmul_peak(clock: str, size: int = 2048) -> float:
    """Floating-point operations per second of one large float32 matmul, the best of ten."""
    import torch

    a, b = torch.randn(2, size, size)
    work = functools.partial(torch.mm, a, b, out=torch.empty_like(a))
    return 2 * size**3 / min(measuring.seconds(work, clock) for _ in range(10))


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


if __name__ == '__main__':
    main()
