"""What a port is judged by in one stage: all that is left of the reference once it has run."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from parity.comparison import Leaf, compare
from parity.stages import Runner
from parity.tolerances import EXACT, Tolerance
from parity.trees import Arrays


@dataclass(frozen=True)
class Expected:
    """What the reference computes in one stage, and how far a port may be off: see `comparison.compare`.

    undecided: of leaves of which rounding decides whether an entry is finite: for each entry, in how many of
               the reference's runs nearby it is finite and in the reference not, or reversely.
    """

    reference: Arrays
    truth: Arrays
    tolerances: dict[str, Tolerance]
    places: bool = False
    undecided: Arrays = field(default_factory=dict)

    def judge(self, port: Arrays, settled: Collection[str] = ()) -> list[Leaf]:
        """The port's leaves, compared; settled: the paths of those that need not be."""
        reference, port = (
            {path: leaf for path, leaf in side.items() if path not in settled}
            for side in (self.reference, {**port, **self._decided(port)})
        )
        return compare(reference, port, self.truth, self.tolerances, places=self.places)

    def _decided(self, port: Arrays) -> Arrays:
        """These leaves, with the reference's entry where a run nearby is as finite, or not, as the port."""
        decided = {}
        for path, times in self.undecided.items():
            mine, its = port.get(path), self.reference[path]
            if mine is not None and mine.shape == its.shape and mine.dtype == its.dtype:
                otherwise = (times > 0) & (np.isfinite(mine) != np.isfinite(its))
                decided[path] = np.where(otherwise, its, mine)
        return decided


def port_leaves(port: Runner, stage: str, *, reach: bool = True) -> Arrays:
    """The port's leaves of a stage, as an Expected has them: gradients in float64 with their reach."""
    leaves = port.stage(stage)
    with_table = reach and stage == 'grads' and port.side.dtype == 'float64'
    return {**leaves, **port.reach()} if with_table else leaves


def exactly(leaves: Arrays) -> Expected:
    """Nothing may differ."""
    return Expected(leaves, leaves, dict.fromkeys(leaves, EXACT))
