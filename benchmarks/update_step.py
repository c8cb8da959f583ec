"""The time of an update: the port against the jitted reference, at the default configuration, in float32.

    python -m benchmarks.update_step [AGENT ...] [--variants port compiled products] [--repeats 30]
    python -m benchmarks.update_step --device cuda --variants port compiled graph

`port` is the port as written, `compiled` after `agent.compile()`, `graph` its update as a CUDA graph,
`products` the port's matmuls alone: a bound, however the rest is written. All take turns; a ratio is the
median of the quotients of neighbours. The share of the peak is the floating-point rate of the update's
matmuls over that of one large matmul, measured in the same run.
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
    measuring.use(options.device, options.threads)
    peak = matmul_peak(options)
    rows = []
    for name in options.agents or agents():
        for method in METHODS:
            rows.append(measure(name, method, peak, options))
            print(line(rows[-1], options.variants), flush=True)
    means = {side: geometric_mean([row['ratios'][side] for row in rows]) for side in options.variants}
    print(f'geometric means {means}; matmul peak {peak / 1e9:.0f} GFLOP/s')
    result = {**vars(options), 'peak': peak, 'updates': rows, 'geometric_means': means}
    measuring.write(f'update_step_{options.device}', result)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('agents', nargs='*')
    parser.add_argument(
        '--variants', nargs='+', choices=('port', 'compiled', 'graph', 'products'), default=['port']
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--repeats', type=int, default=30)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=measuring.CLOCKS, default='wall')
    return parser.parse_args()


def agents() -> list[str]:
    import torch_agents

    return list(torch_agents.agents)


def measure(name: str, method: str, peak: float, options: argparse.Namespace) -> dict[str, Any]:
    """One row: median seconds of each side, the port's ratios, and what its matmuls make of the peak."""
    import torch

    torch.compiler.reset()  # else it compiles nothing after eight agents, as they share functions
    config, batch = measuring.example(name)
    sides = ('reference', *options.variants)
    works = {side: measuring.update_of(side, name, method, config, batch, options.device) for side in sides}
    times = measuring.alternating(works, options.repeats, clock=options.clock)
    medians = {side: statistics.median(values) for side, values in times.items()}
    operations = flops(measuring.update_of('port', name, method, config, batch, options.device))
    return {
        'agent': name,
        'method': method,
        'seconds': medians,
        'ratios': {side: measuring.ratio(times, side, 'reference') for side in options.variants},
        'shares_of_peak': {side: operations / medians[side] / peak for side in options.variants},
    }


def line(row: dict[str, Any], variants: list[str]) -> str:
    """A row as text."""
    words = [f'{row["agent"] + " " + row["method"]:24} reference {row["seconds"]["reference"] * 1e3:7.2f} ms']
    for side in variants:
        seconds, ratio, share = (row[key][side] for key in ('seconds', 'ratios', 'shares_of_peak'))
        words.append(f'{side} {seconds * 1e3:7.2f} ms, ratio {ratio:4.2f}, {share:3.0%} of peak')
    return '; '.join(words)


def flops(update: Any) -> int:
    """The floating-point operations of the matmuls of one update."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        update()
    return counter.get_total_flops()


def matmul_peak(options: argparse.Namespace) -> float:
    """Floating-point operations per second of one large float32 matmul, the best of ten."""
    import torch

    size = 2048 if options.device == 'cpu' else 8192
    a, b = torch.randn(2, size, size, device=options.device)
    work = measuring.waiting(functools.partial(torch.mm, a, b, out=torch.empty_like(a)), options.device)
    return 2 * size**3 / min(measuring.seconds(work, options.clock) for _ in range(10))


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


if __name__ == '__main__':
    main()
