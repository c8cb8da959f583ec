"""What a search has found so far."""

import dataclasses
from typing import Any

from parity.locating.divergence import Divergence

# A note, where no place was found.
TOO_SMALL = 'leaves differ, but no value from which they were computed does by more than its rounding'


class Record:
    """A divergence that grows: every stage of the search adds to it."""

    def __init__(self, found: Divergence) -> None:
        self.found = found

    def add(self, **fields: Any) -> None:
        """Set fields of the divergence."""
        self.found = dataclasses.replace(self.found, **fields)

    def note(self, *notes: str) -> None:
        """Add to what could not be looked into."""
        self.add(notes=(*self.found.notes, *notes))
