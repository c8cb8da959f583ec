"""What was located as an HTML page: each place with both sides' lines, the calls, and what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from parity.locating.divergence import Divergence, Finding
from parity.locating.reach import ReachCell
from parity.report import files, html
from parity.report.json import as_text
from parity.report.parts import Excerpt, calls, excerpt

# The JSON file has all of them.
FINDINGS, LEAVES, WORDS = 12, 12, 12


@dataclass(frozen=True)
class Smallest:
    """The case file that was left: where it is, its case in words, and the command that checks it."""

    path: Path
    description: str
    command: str


@dataclass(frozen=True)
class Shown:
    """A finding with the source of both sides."""

    finding: Finding
    sides: tuple[tuple[str, Excerpt | None], ...]


def write(divergence: Divergence, folder: Path, smallest: Smallest | None = None) -> list[Path]:
    """Write `<pair>-locate.json` and `<pair>-locate.html`; returns the paths."""
    is_checked = (folder / f'{files.stem(divergence.pair)}.html').exists()
    return files.write_all(folder, pages(divergence, smallest, is_checked=is_checked))


def pages(
    divergence: Divergence, smallest: Smallest | None = None, *, is_checked: bool = False
) -> dict[str, str]:
    """The two files by name; the arguments are those of `page`."""
    stem = files.located_stem(divergence.pair)
    return {
        f'{stem}.json': as_text(divergence.as_dict()),
        f'{stem}.html': page(divergence, smallest, is_checked=is_checked),
    }


def page(divergence: Divergence, smallest: Smallest | None = None, *, is_checked: bool = False) -> str:
    """The page; smallest: the case file, if there is one; is_checked: whether the pair's page is there."""
    return html.render(
        'locate.html',
        divergence=divergence,
        findings=[_shown(finding) for finding in divergence.findings[:FINDINGS]],
        trees={loss: calls(rows) for loss, rows in divergence.modules.items()},
        reach=_tables(divergence.reach),
        smallest=smallest,
        is_checked=is_checked,
        leaves=LEAVES,
        most=WORDS,
    )


def _shown(finding: Finding) -> Shown:
    sides = ('reference', finding.reference), ('port', finding.port)
    return Shown(finding, tuple((side, excerpt(at) if at else None) for side, at in sides))


def _tables(cells: Sequence[ReachCell]) -> dict[str, dict[str, dict[str, ReachCell]]]:
    """Loss -> term -> network -> cell."""
    tables: dict[str, dict[str, dict[str, ReachCell]]] = {}
    for (loss, term), row in groupby(cells, key=lambda cell: (cell.loss, cell.term)):
        tables.setdefault(loss, {}).setdefault(term, {}).update({cell.network: cell for cell in row})
    return tables
