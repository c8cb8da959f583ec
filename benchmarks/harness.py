"""What the harness costs: a check against the bare computations that it compares, and what it starts with.

    python -m benchmarks.harness [PAIR ...] [--examples 200]

Everything is measured in processes of their own, without compiled programs of earlier ones.
`check` is all stages in both precisions on one case; `bare` the same calls of the same sides, each once, and
nothing judged. `cold` is the first case of a process, compilation included, `warm` the median of the next.
`examples` are losses and gradients of generated cases: by the harness, which compiles once per structure, and
by a plain test, which makes both agents and jits each loss anew for each example; all in float64.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks import measuring

WARM = 5
PLAIN = 3  # examples of the plain test: each takes as long as the one before


def main() -> None:
    options = arguments()
    if options.side:
        print(json.dumps(SIDES[options.side](options.pairs[0], options.examples)))
        return
    started = {
        'import parity': median_of('-c', 'import parity') - median_of('-c', 'pass'),
        'parity check iql, cold': timed('-m', 'parity', 'check', 'iql'),
    }
    for what, seconds in started.items():
        print(f'{what:24} {seconds:6.2f} s')
    rows = [compare(name, options.examples) for name in options.pairs or ['iql']]
    measuring.write('harness', {'seconds': started, 'pairs': rows})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('pairs', nargs='*')
    parser.add_argument('--examples', type=int, default=200)
    parser.add_argument('--side', choices=SIDES, help='measure this, in this process')
    return parser.parse_args()


def compare(name: str, examples: int) -> dict[str, Any]:
    """One row: the seconds of each side, the check's over the bare ones, and examples per second."""
    found = {side: in_a_process(side, name, examples) for side in SIDES}
    ratios = {state: found['check'][state] / found['bare'][state] for state in ('cold', 'warm')}
    faster = found['generated']['per second'] / found['plain']['per second']
    print(f'{name:12} ' + ', '.join(f'{state}: check / bare {ratio:.2f}' for state, ratio in ratios.items()))
    rates = (f'{found[side]["per second"]:.2f} {side}' for side in ('generated', 'plain'))
    print(f'{name:12} examples per second: {", ".join(rates)}, ratio {faster:.0f}')
    return {'pair': name, **found, 'ratios': ratios, 'examples ratio': faster}


def in_a_process(side: str, name: str, examples: int) -> dict[str, float]:
    command = ['-m', 'benchmarks.harness', name, '--side', side, '--examples', str(examples)]
    found: dict[str, float] = json.loads(run(*command).stdout)
    return found


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Python, without compiled programs."""
    with tempfile.TemporaryDirectory() as folder:
        where = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': folder}
        return subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, env=where)


def timed(*command: str) -> float:
    return measuring.seconds(lambda: run(*command))


def median_of(*command: str) -> float:
    return statistics.median(timed(*command) for _ in range(2 * WARM))


# --- what is measured


def cold_and_warm(work: Callable[[int], object]) -> dict[str, float]:
    """Of work(seed)."""
    cold, *warm = (measuring.seconds(lambda seed=seed: work(seed)) for seed in range(1 + WARM))  # type: ignore[misc]
    return {'cold': cold, 'warm': statistics.median(warm)}


def whole_check(name: str, examples: int) -> dict[str, float]:
    import parity
    from parity.backends import prepare

    prepare()
    return cold_and_warm(lambda seed: parity.check(name, cases=[parity.Case(seed)]).raise_if_mismatch())


def bare(name: str, examples: int) -> dict[str, float]:
    import parity
    from parity.backends import prepare
    from parity.pair import find
    from parity.runs import Runs
    from parity.stages import stages_of

    prepare()
    pair = find(name)

    def compute(seed: int) -> None:
        runs = Runs(pair, parity.Case(seed))
        _ = runs.inputs  # by which the settings choose the number of threads
        with runs.settings():
            for side in (runs.reference64, runs.port64, runs.reference32, runs.port32):
                for stage in stages_of(pair):
                    if stage != 'config':
                        side.stage(stage)

    return cold_and_warm(compute)


def generated(name: str, examples: int) -> dict[str, float]:
    import parity
    from parity.backends import prepare
    from parity.generated import part_of
    from parity.pair import find

    prepare()
    cases = part_of(find(name), 0, 0)[:examples]
    check = lambda: parity.check(name, cases=cases, stages=['loss', 'grads'], dtypes=['float64'])  # noqa: E731
    return {'per second': len(cases) / measuring.seconds(check)}


def plain(name: str, examples: int) -> dict[str, float]:
    """As a test without a harness would: agents, jit, the gradients of each loss, np.testing."""
    import jax
    import numpy as np
    import torch

    import weight_bridge
    from parity.batches import generate
    from parity.pair import find
    from parity.stages import LOSSES

    pair: Any = find(name)

    def example(seed: int) -> None:
        sizes = {'B': 4 + seed, 'M': 4 + seed, 'O': 3, 'A': 2, 'L': 4}
        config = {**pair.get_config('port'), **pair.sizes}
        config |= {key: sizes[letter] for key, letter in pair.sizes_from.items()}
        batch = generate(pair.batch, sizes, seed, 'plain')
        made = batch['observations'], batch['actions']
        reference = pair.load('reference').create(seed, *made, config)
        port = pair.load('port').create(seed, *made, config, dtype=torch.float64)
        wide = {key: np.asarray(array, np.float64) for key, array in batch.items()}
        tensors = {key: torch.tensor(array) for key, array in wide.items()}
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), reference.network.params)
        weight_bridge.to_torch(params, port.network)
        key = torch.tensor(np.asarray(reference.rng))
        for call in LOSSES:
            if not call.frozen:
                jitted = jax.jit(lambda params, call=call: call.on(reference, wide, reference.rng, params)[0])
                with jax.enable_x64(True):
                    expected, gradients = jax.value_and_grad(jitted)(params)
                port.network.zero_grad()
                loss, _ = call.on(port, tensors, key, port.network.params)
                loss.backward()
                np.testing.assert_allclose(loss.detach(), expected, 1e-6)
                found = weight_bridge.grads_to_flax(port.network)
                jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, 1e-4, 1e-6), gradients, found)

    start = time.perf_counter()
    for seed in range(PLAIN):
        example(seed)
    return {'per second': PLAIN / (time.perf_counter() - start)}


SIDES = {'check': whole_check, 'bare': bare, 'generated': generated, 'plain': plain}

if __name__ == '__main__':
    main()
