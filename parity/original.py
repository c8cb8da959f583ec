"""The shipped ports against an original checkout: its agents as references, in processes of their own.

The checkout has `agents/<name>.py` with `get_config()` and one class with `create`, and whatever these import
from the checkout's root. Its modules and its jax configuration stay in the processes that check.
"""

import dataclasses
import functools
import importlib
import inspect
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import backends
from parity.cases import Case
from parity.checking import check
from parity.errors import ParityError
from parity.pair import Pair, find, load_target
from parity.parallel import Progress, in_processes
from parity.verdict import Verdict

# What a checkout imports of itself, and what of ours must be imported before it can take the names.
THEIRS = ('agents', 'utils')
OURS = ('fixtures', 'reference_jax', 'torch_agents', 'weight_bridge')
# A note beside the versions in a verdict.
EXTRA = 'only in the original configuration'


def pairs_of(root: Path, names: Sequence[str], *, strict: bool) -> list[str]:
    """Those of `names` whose pair has an agent in the checkout; strict: all must have one.

    Raises ParityError, with all that is missing.
    """
    files = {name: root / 'agents' / f'{find(name).name}.py' for name in names}
    missing = {name: str(file) for name, file in files.items() if not file.is_file()}
    if missing and (strict or len(missing) == len(names)):
        raise ParityError(
            f'{root} does not have the agents of an original checkout',
            values=f'expected {", ".join(missing.values())}; found no such file',
            error=f'{len(missing)} missing; allowed: 0',
            where='--reference',
            next_step='name the folder that holds agents/ and utils/, and pairs that it has',
        )
    return [name for name in names if name not in missing]


def check_original(
    root: Path, cases: Mapping[str, Sequence[Case]], choice: dict[str, Any], jobs: int, progress: Progress
) -> list[Verdict]:
    """The verdict of each pair on its cases, with the checkout's agent as its reference."""
    tasks = [(str(root.absolute()), name, tuple(found), choice) for name, found in cases.items()]
    return in_processes(_check, tasks, jobs, progress)


def _check(
    root: str, name: str, cases: Sequence[Case], choice: dict[str, Any], progress: Progress
) -> Verdict:
    """In a process of its own; the verdict's commands name the checkout."""
    _enter(root)
    pair = original_of(find(name))
    verdict = check(pair, cases=cases, progress=progress, **choice)
    backends.release()
    # the pair is not the one of its name, which is what a command would check
    before, now = (
        shlex.join(['parity', 'check', *words]) for words in ([pair.name], [name, '--reference', root])
    )
    again = tuple(
        dataclasses.replace(case, command=now + case.command.removeprefix(before)) for case in verdict.cases
    )
    notes = {'original': root, **({EXTRA: ', '.join(pair.own_keys)} if pair.own_keys else {})}
    return dataclasses.replace(verdict, cases=again, versions={**verdict.versions, **notes})


def _enter(root: str) -> None:
    """Put the checkout first on the path."""
    if root in sys.path[:1]:
        return
    for name in OURS:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split('.')[0] in THEIRS]:
        del sys.modules[name]
    sys.path.insert(0, root)


@dataclass(frozen=True)
class OriginalPair(Pair):
    """A pair with the agent of a checkout as its reference."""

    @functools.cached_property
    def own_keys(self) -> list[str]:
        """The configuration keys that only the original has: of its training script, or of its own."""
        return [key for key in self.reference.defaults() if key not in self.get_config('port')]

    def get_config(self, side: str) -> dict[str, Any]:
        """The default configuration, of the original without the keys that only it has."""
        if side == 'port':
            return super().get_config(side)
        return {key: value for key, value in self.reference.defaults().items() if key not in self.own_keys}


class OriginalAgent:
    """The agent class of a checkout, created with the configuration that its own `get_config` makes."""

    def __init__(self, cls: type, get_config: Any) -> None:
        self.cls, self.get_config = cls, get_config

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cls, name)

    def defaults(self) -> dict[str, Any]:
        """The default configuration as plain values: ml_collections.ConfigDict is none of ours."""
        config = self.get_config()
        return dict(config.to_dict() if hasattr(config, 'to_dict') else config)

    def create(self, seed: int, observations: Any, actions: Any, config: Mapping[str, Any]) -> Any:
        """An agent of the class; what `config` does not have is the original's default."""
        whole = self.get_config()
        for key, value in config.items():
            whole[key] = value
        return self.cls.create(seed, observations, actions, whole)  # type: ignore[attr-defined]


def original_of(pair: Pair) -> OriginalPair:
    """The pair with the agent of the checkout that is on the path. Raises ParityError where there is none."""
    where = f'agents.{pair.name}'
    module = load_target(where, where='--reference')
    found = {
        name: cls
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and hasattr(cls, 'create')
    }
    problems = [] if hasattr(module, 'get_config') else ['expected get_config(); found none']
    if len(found) != 1:
        problems.append(f'expected one class with create; found {", ".join(found) or "none"}')
    if problems:
        raise ParityError(
            f'{where} has not what an agent needs',
            values='; '.join(problems),
            error=f'{len(problems)} problems; allowed: 0',
            where=str(module.__file__),
            next_step='name the root of a checkout of the original: --reference PATH',
        )
    (cls,) = found.values()
    fields = {field.name: getattr(pair, field.name) for field in dataclasses.fields(Pair)}
    agent = OriginalAgent(cls, module.get_config)
    return OriginalPair(**{**fields, 'reference': agent, 'presets': {}})  # the presets are of our reference
