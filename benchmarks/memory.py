"""The peak memory of a process that does updates: the port's against the reference's, in MB.

    python -m benchmarks.memory [AGENT ...] [--method finetune] [--updates 5] [--threads 2]

Each side runs in a process of its own, which reports the peak of its resident memory (ru_maxrss). What it had
after its imports is taken off: the reference's checkpoints import torch, which its updates do not need.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.update_step import agents, geometric_mean

SIDES = {'reference': 'reference_jax', 'port': 'torch_agents'}


def main() -> None:
    options = arguments()
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return
    rows = [compare(name, options) for name in options.agents or agents()]
    mean = geometric_mean([row['ratio'] for row in rows])
    print(f'geometric mean {mean:.2f}')
    measuring.write('memory', {'method': options.method, 'agents': rows, 'geometric_mean': mean})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('agents', nargs='*')
    parser.add_argument('--method', default='finetune')
    parser.add_argument('--updates', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--side', choices=SIDES, help='measure this side, in this process')
    parser.add_argument('--folder', help='where the batch and the configuration of this side lie')
    return parser.parse_args()


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: the bytes of both sides, and the ratio of their peaks."""
    config, batch = measuring.example(name)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / 'batch.npz', **batch)  # describing a batch imports both packages
        (Path(folder) / 'config.json').write_text(json.dumps(config))
        found = {side: in_a_process(side, name, folder, options) for side in SIDES}
    used = {side: values['peak'] - values['imported'] for side, values in found.items()}
    ratio = used['port'] / used['reference']
    shown = (f'{side} {used[side] / 1e6:5.0f} of {found[side]["peak"] / 1e6:5.0f} MB' for side in SIDES)
    print(f'{name:12} {", ".join(shown)}, ratio {ratio:.2f}')
    return {'agent': name, **found, 'ratio': ratio}


def in_a_process(side: str, name: str, folder: str, options: argparse.Namespace) -> dict[str, int]:
    command = [sys.executable, '-m', 'benchmarks.memory', name, '--side', side, '--folder', folder]
    command += ['--method', options.method, '--updates', str(options.updates)]
    command += ['--threads', str(options.threads)]
    found: dict[str, int] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def measure(side: str, options: argparse.Namespace) -> dict[str, int]:
    importlib.import_module(SIDES[side])
    measuring.use_cores(options.threads)
    imported = peak()
    folder = Path(options.folder)
    batch, config = dict(np.load(folder / 'batch.npz')), json.loads((folder / 'config.json').read_text())
    update = measuring.update_of(side, options.agents[0], options.method, config, batch)
    for _ in range(options.updates):
        update()
    return {'imported': imported, 'peak': peak()}


def peak() -> int:
    """The bytes of resident memory at its peak, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == '__main__':
    main()
