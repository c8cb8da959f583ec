"""A report folder: the files of each pair, made as soon as it was checked, and the indexes over them."""

from collections.abc import Sequence
from pathlib import Path

from parity.report import files, html, json, locate_page
from parity.verdict import Verdict


class Folder:
    """What will stand in a report folder. Nothing is written before all of it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[str, dict[str, str]] = {}

    def add(self, verdict: Verdict) -> None:
        """Make the files of one pair."""
        stem = files.stem(verdict.pair)
        located = locate_page.pages(verdict.located, is_checked=True) if verdict.located else {}
        self._texts[stem] = {
            f'{stem}.json': json.as_text(json.report(verdict)),
            f'{stem}.html': html.pair_page(verdict),
            **located,
        }

    def write(self, verdicts: Sequence[Verdict]) -> Path:
        """Write the files of these pairs, then the indexes; returns the page over all pairs."""
        for verdict in verdicts:
            if files.stem(verdict.pair) not in self._texts:
                self.add(verdict)
        for texts in self._texts.values():
            files.write_all(self.path, texts)
        indexes = {
            'index.json': json.as_text(json.index(verdicts)),
            'index.html': html.index_page(verdicts),
        }
        return files.write_all(self.path, indexes)[-1]
