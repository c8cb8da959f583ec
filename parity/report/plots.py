"""Line plots as SVG text that stands inside a page: no script, no font, and the page's own colours."""

import io
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parity.report.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins, replaced by what the page's style sheet defines for light and dark.
INK, FAINT = '#010203', '#040506'
# Told apart by marker and dash as well as by colour; all of them are visible on light and on dark paper.
LINES = (
    ('#3a86c8', 'o', '-'),
    ('#d9822b', 's', '-'),
    ('#3a86c8', '^', '--'),
    ('#d9822b', 'D', '--'),
    ('#8a63d2', 'v', '-'),
    ('#2f9e6e', 'P', '--'),
    ('#c2527d', 'X', ':'),
    ('#8c8c3a', '*', ':'),
)
STYLE: Any = {  # matplotlib types every key of its settings
    'svg.fonttype': 'none',
    'text.parse_math': False,  # a label is text, whatever characters it has
    'font.size': 11,
    'text.color': INK,
    'axes.edgecolor': FAINT,
    'axes.labelcolor': INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'xtick.color': INK,
    'ytick.color': INK,
    'grid.color': FAINT,
    'grid.alpha': 0.35,
    'legend.frameon': False,
}
# Names fit under the axis if they are few and short; markers if the steps are not many.
FEW_STEPS, LONG_NAME, MANY_STEPS = 9, 20, 50


def lines(
    series: Series, *, ylabel: str, label: str, names: Mapping[int, str], limit: float | None = None
) -> str:
    """An SVG with one line per label on a logarithmic axis, or '' if no value can be drawn on one.

    label: what a screen reader says; names: of the steps; limit: a value to mark, such as the margin 1.
    Values of 0 and infinite ones have no place on a logarithmic axis: the line is interrupted there.
    """
    drawn = {name: [(x, y) for x, y in points if 0 < y < math.inf] for name, points in series.items()}
    if not any(drawn.values()):
        return ''
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, 'svg.hashsalt': label}):
        figure = Figure(figsize=(8.2, 3.4), layout='constrained')
        axes = figure.subplots()
        _draw(axes, series, limit)
        _dress(axes, ylabel, names)
        file = io.StringIO()
        nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        figure.savefig(file, format='svg', transparent=True, metadata=nothing)
    return _inline(file.getvalue(), label)


def _draw(axes: 'Axes', series: Series, limit: float | None) -> None:
    for i, (name, points) in enumerate(series.items()):
        colour, marker, dash = LINES[i % len(LINES)]
        heights = [y if 0 < y < math.inf else math.nan for _, y in points]
        marker = marker if len(points) <= MANY_STEPS else ''
        steps = [x for x, _ in points]
        text = name.lstrip('_')  # matplotlib leaves a name with _ before it out of the legend
        axes.plot(steps, heights, dash, color=colour, marker=marker, markersize=6, linewidth=1.6, label=text)
    if limit is not None:
        axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (1, 2)), label=f'allowed: {limit:g}')


def _dress(axes: 'Axes', ylabel: str, names: Mapping[int, str]) -> None:
    from matplotlib.ticker import LogFormatter

    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.set_ylabel(ylabel)
    axes.grid(True, axis='y')
    if names and max(names) < FEW_STEPS and max(map(len, names.values())) <= LONG_NAME:
        ticks = [f'{step}\n{name}'.replace('_', '\n') for step, name in sorted(names.items())]
        axes.set_xticks(sorted(names), ticks)
    else:
        axes.set_xlabel('step')
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5))


def _inline(svg: str, label: str) -> str:
    """The <svg> element alone, labelled, without the ids that two plots on a page would share."""
    from markupsafe import escape

    body = svg[svg.index('<svg') :]
    body = re.sub(r'<g id="[^"]*">', '<g>', body)
    body = re.sub(r'\s*<!--.*?-->|\s*<style.*?</style>', '', body, flags=re.DOTALL)
    body = body.replace(INK, 'var(--ink)').replace(FAINT, 'var(--faint)')
    body = re.sub(r' (width|height)="[\d.]+pt"', '', body, count=2)
    return body.replace('<svg', f'<svg role="img" aria-label="{escape(label)}"', 1)
