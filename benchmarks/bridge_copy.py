"""How fast `weight_bridge.to_torch` copies a tree, and how much memory it takes beside tree and module.

    python benchmarks/bridge_copy.py --values 1e9 --width 8192

Prints one JSON object. Speeds are in bytes of parameters per second, the best of `--repeats` in turn; `plain`
is numpy's copy of the same arrays into the same memory without transposing them, `ratio` their quotient.
`extra_bytes` is how far the peak of the process's memory (VmHWM, on Linux) rose above what it used before the
first copy. With `--file` the tree lies in a safetensors file and is read leaf by leaf, by both.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import weight_bridge


def main() -> None:
    options = arguments()
    module = layers(int(options.values), options.width)
    tree = random_tree(module)
    largest = max(leaf['kernel'].nbytes for leaf in tree.values())
    total = sum(array.nbytes for leaf in tree.values() for array in leaf.values())
    with tempfile.TemporaryDirectory() as folder:
        if options.file:
            from weight_bridge import checkpoints

            checkpoints.write(Path(folder) / 'tree.safetensors', tree, {})
            del tree
            tree = checkpoints.read(Path(folder) / 'tree.safetensors').tree
        before = memory('VmRSS')
        seconds(lambda: weight_bridge.to_torch(tree, module))
        extra = memory('VmHWM') - before
        assert_copied(tree, module)
        copies = []
        for _ in range(options.repeats):
            plain = seconds(lambda: plain_copies(tree, module))
            copies.append((seconds(lambda: weight_bridge.to_torch(tree, module)), plain))
    speed, plain = (total / min(column) for column in zip(*copies, strict=True))
    result = {
        'values': sum(parameter.numel() for parameter in module.parameters()),
        'bytes': total,
        'largest_leaf_bytes': largest,
        'threads': torch.get_num_threads(),
        'to_torch': speed,
        'plain': plain,
        'ratio': speed / plain,
        'extra_bytes': extra,
    }
    json.dump(result, sys.stdout, indent=1)
    print()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--values', type=float, default=5e7, help='how many values, about')
    parser.add_argument('--width', type=int, default=2048, help='rows and columns of each kernel')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--file', action='store_true', help='read the tree from a safetensors file')
    return parser.parse_args()


def layers(values: int, width: int) -> nn.ModuleDict:
    """Square layers of float32 with about so many values, every page of their memory touched."""
    count = max(1, round(values / (width * width + width)))
    made = {
        f'Dense_{i}': nn.utils.skip_init(nn.Linear, width, width, dtype=torch.float32) for i in range(count)
    }
    for layer in made.values():
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return nn.ModuleDict(made)


def random_tree(module: nn.ModuleDict) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        name: {
            'kernel': rng.random(layer.weight.shape[::-1], dtype=np.float32),
            'bias': rng.random(layer.bias.shape, dtype=np.float32),
        }
        for name, layer in module.items()
    }


def plain_copies(tree: dict[str, dict[str, np.ndarray]], module: nn.ModuleDict) -> None:
    """The same bytes from and to the same memory, in the order in which they lie there."""
    for name, layer in module.items():
        for key, parameter in (('kernel', layer.weight), ('bias', layer.bias)):
            source = tree[name][key]
            np.copyto(parameter.detach().numpy().reshape(source.shape), source)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory(entry: str) -> int:
    """The bytes in use (VmRSS) or their peak since they were asked for (VmHWM).

    Unlike ru_maxrss, the peak does not count what the process had before, or the one that started it.
    """
    lines = Path('/proc/self/status').read_text().splitlines()
    found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{entry}:'))
    if entry == 'VmRSS':
        Path('/proc/self/clear_refs').write_text('5')
    return found


def assert_copied(tree: object, module: nn.ModuleDict) -> None:
    """The last kernel, transposed: a fast copy of nothing is no result."""
    name, layer = next(reversed(module.items()))
    np.testing.assert_array_equal(layer.weight.detach().numpy().T, np.asarray(tree[name]['kernel']))


if __name__ == '__main__':
    main()
