"""What the benchmarks share: the agents on both sides, alternating timings, and the results file."""

import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# As in the ExORL benchmark; the batch as in every default configuration.
SIZES = {'B': 256, 'M': 256, 'O': 17, 'A': 6}
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
REPORTS = Path('reports/benchmarks')


def use_threads(count: int) -> None:
    """Restrict torch to so many threads, and this process to so many cores, which is what XLA goes by.

    To be called before jax is used.
    """
    import torch

    torch.set_num_threads(count)
    use_cores(count)


def use_cores(count: int) -> None:
    """Restrict this process to so many cores, on Linux."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def example(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The default configuration of an agent, and a float32 batch for it."""
    from parity.batches import generate
    from parity.pair import registered

    pair = registered()[name]
    config = pair.get_config('port')
    if name == 'dino_rebrac':
        config['encoder'] = 'mlp'  # its default is an encoder of images
    sizes = {**SIZES, 'L': config.get('latent_dim', 1)}
    return config, generate(pair.batch, sizes, 0, 'plain')


def use(device: str, threads: int) -> None:
    """Compute on the CPU with so many threads, or on the GPU."""
    if device == 'cpu':
        use_threads(threads)
    else:
        use_gpu()


def use_gpu() -> None:
    """Compute on the GPU in jax, and in both frameworks in whole float32: no TF32, no reduced precision."""
    import jax

    from parity.execution import Execution

    jax.config.update('jax_default_device', jax.local_devices(backend='cuda')[0])
    jax.config.update('jax_default_matmul_precision', 'highest')
    Execution('cuda', 'cuda').applied().__enter__()


def update_of(
    side: str,
    name: str,
    method: str,
    config: dict[str, Any],
    batch: dict[str, np.ndarray],
    device: str = 'cpu',
) -> Callable[[], object]:
    """A function that does one update of a new agent, and waits for its end.

    side: 'reference'; 'port', the port as written; 'compiled', after its `compile()`; 'graph', its update
          replayed as a CUDA graph; 'products', the matmuls of the port's update alone.
    """
    if side == 'reference':
        return reference_update(name, method, config, batch)
    return port_update(side, name, method, config, batch, device)


def reference_update(
    name: str, method: str, config: dict[str, Any], batch: dict[str, np.ndarray]
) -> Callable[[], object]:
    import jax

    import reference_jax

    agent = reference_jax.agents[name].create(0, batch['observations'], batch['actions'], config)
    arrays = jax.device_put(batch)

    def update() -> None:
        nonlocal agent
        agent, info = getattr(agent, method)(arrays)
        jax.block_until_ready((agent.network.params, agent.network.opt_state, info))

    return update


def port_update(
    side: str, name: str, method: str, config: dict[str, Any], batch: dict[str, np.ndarray], device: str
) -> Callable[[], object]:
    import torch

    import torch_agents

    agent = torch_agents.agents[name].create(
        0, batch['observations'], batch['actions'], config, device=device
    )
    tensors = {key: torch.from_numpy(array).to(device) for key, array in batch.items()}
    if side == 'compiled':
        agent.compile()
    update = functools.partial(getattr(agent, method), tensors)
    if side == 'graph':
        update = captured(agent, update)
    elif side == 'products':
        update = products_of(update)
    return waiting(update, device)


def waiting(work: Callable[[], object], device: str) -> Callable[[], object]:
    """The work, and on a GPU the wait for its end."""
    import torch

    if device == 'cpu':
        return work

    def wait() -> None:
        work()
        torch.cuda.synchronize()

    return wait


def captured(agent: Any, update: Callable[[], object]) -> Callable[[], object]:
    """One update as a CUDA graph: the same kernels, launched at once. Its step is not counted."""
    import torch

    for group in agent.network.tx.param_groups:
        group['capturable'] = True
    warming = torch.cuda.Stream()
    with torch.cuda.stream(warming):  # what is made at the first call must not be made in the graph
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(warming)
    key = agent.rng = agent.rng.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update()
        key.copy_(agent.rng)
    agent.rng = key
    return graph.replay


def products_of(update: Callable[[], object]) -> Callable[[], object]:
    """The matmuls of one update, forward and backward, again with the same arrays: no update takes less."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    products = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket in flop_registry:
                products.append(functools.partial(func, *args, **(kwargs or {})))
            return func(*args, **(kwargs or {}))

    update()  # what the first call makes is not a part of it
    with Recorder():
        update()

    @torch.no_grad()
    def replay() -> None:
        for product in products:
            product()

    return replay


def alternating(
    works: dict[str, Callable[[], object]], repeats: int, warm_up: int = 3, clock: str = 'wall'
) -> dict[str, list[float]]:
    """The seconds of each work, `repeats` times in turn; the order is turned round each time.

    clock: 'wall', or 'cpu', the seconds that this process computed: for a machine that others use as well.
    """
    for work in works.values():
        for _ in range(warm_up):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(repeats):
        for name in list(works)[:: 1 if i % 2 else -1]:
            times[name].append(seconds(works[name], clock))
    return times


def seconds(work: Callable[[], object], clock: str = 'wall') -> float:
    now = CLOCKS[clock]
    start = now()
    work()
    return now() - start


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    """The median of the quotients of neighbours in time: what slows down both cancels."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def write(name: str, result: dict[str, Any]) -> None:
    """Write `reports/benchmarks/<name>.json`, with the machine and the versions."""
    import jax
    import torch

    where = {
        'machine': f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores',
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else 'none',
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'jax': jax.__version__,
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f'{name}.json').write_text(json.dumps({**where, **result}, indent=1) + '\n')
