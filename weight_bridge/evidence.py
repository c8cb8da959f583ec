"""What pairs two trees without running them: structure and shapes, then names, then the order of definition.

Both trees are matched from their roots. Children are paired by how many values their leaves have; a scope
that only one side has is dissolved into its children. Among children that are alike, the rules decide (a
kernel is no bias), then words that both sides use, then order: numbers in the reference's names (Dense_0,
Dense_1) against the order in which the port registered its modules. What is still alike is a group, which
nothing here decides.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from weight_bridge import names
from weight_bridge.scopes import Link, Node, options


@dataclass(frozen=True)
class Group:
    """Scopes or leaves of both sides that are alike; one of each where only the layout is open."""

    references: tuple[Node, ...]
    ports: tuple[Node, ...]


@dataclass(frozen=True)
class Found:
    """What is decided, what is not, and what has no counterpart."""

    links: tuple[Link, ...] = ()
    groups: tuple[Group, ...] = ()
    lost: tuple[Node, ...] = ()
    strays: tuple[Node, ...] = ()

    def __add__(self, other: 'Found') -> 'Found':
        return Found(
            self.links + other.links,
            self.groups + other.groups,
            self.lost + other.lost,
            self.strays + other.strays,
        )

    def because(self, why: str) -> 'Found':
        return replace(self, links=tuple(replace(link, why=(why, *link.why)) for link in self.links))

    @property
    def fits(self) -> bool:
        return not self.lost and not self.strays


class Evidence:
    """Pairs trees; with `trusting` False names and order count for nothing."""

    def __init__(self, trusting: bool = True) -> None:
        self.trusting = trusting
        self.pair = cache(self._pair)  # asked again for every group that two scopes are in

    def _pair(self, reference: Node, port: Node) -> Found:
        if reference.leaf is not None and port.leaf is not None:
            found = options(reference, port)
            if len(found) > 1:
                return Found(groups=(Group((reference,), (port,)),))
            return Found(links=tuple(found)) if found else _unmatched([reference], [port])
        return self._children(reference.children or (reference,), port.children or (port,))

    def _children(self, references: Sequence[Node], ports: Sequence[Node]) -> Found:
        references, ports = _levelled(references, ports)
        found = Found()
        for sizes in dict.fromkeys(node.sizes for node in (*references, *ports)):
            ours = [node for node in references if node.sizes == sizes]
            theirs = [node for node in ports if node.sizes == sizes]
            found += self._alike(ours, theirs)
        return found

    def _alike(self, references: list[Node], ports: list[Node]) -> Found:
        if len(references) != len(ports):
            return _unmatched(references, ports)
        if len(references) == 1:
            return self.pair(references[0], ports[0])
        fitting = [
            frozenset(place for place, port in enumerate(ports) if self.pair(reference, port).fits)
            for reference in references
        ]
        if not all(fitting):
            return _unmatched(references, ports)
        parts = _apart(references, ports, fitting)
        if len(parts) > 1:
            return _sum(self._alike(*part).because('rules') for part in parts)
        if not self.trusting:
            return Found(groups=(Group(tuple(references), tuple(ports)),))
        return self._by_name(references, ports)

    def _by_name(self, references: list[Node], ports: list[Node]) -> Found:
        found = names.keys([node.path for node in references], [node.path for node in ports])
        if found is None:
            return self._by_order(references, ports)
        ours, theirs = found
        parts = (
            (
                [node for node, key in zip(references, ours, strict=True) if key == wanted],
                [node for node, key in zip(ports, theirs, strict=True) if key == wanted],
            )
            for wanted in dict.fromkeys(ours)
        )
        return _sum(self._alike(*part).because('names') for part in parts)

    def _by_order(self, references: list[Node], ports: list[Node]) -> Found:
        order = names.numbered([node.path for node in references])
        theirs = names.numbered([node.path for node in ports])
        if order is None or theirs not in (None, sorted(theirs or ())):
            return Found(groups=(Group(tuple(references), tuple(ports)),))
        pairs = zip((references[place] for place in order), ports, strict=True)
        return _sum(self.pair(*pair).because('order') for pair in pairs)


def possible(found: Found, evidence: Evidence) -> Iterator[Link]:
    """All links that are decided or that a group could give, inner groups included."""
    yield from found.links
    for group in found.groups:
        for reference, port in product(group.references, group.ports):
            if reference.leaf is not None and port.leaf is not None:
                yield from options(reference, port)
            elif (inner := evidence.pair(reference, port)).fits:
                yield from possible(inner, evidence)


def _levelled(references: Sequence[Node], ports: Sequence[Node]) -> tuple[Sequence[Node], Sequence[Node]]:
    """Scopes that only one side has, the largest first, replaced by their children."""
    while True:
        ours, theirs = (Counter(node.sizes for node in side) for side in (references, ports))
        surplus = {sizes for sizes in ours | theirs if ours[sizes] != theirs[sizes]}
        scopes = [node for node in (*references, *ports) if node.sizes in surplus and node.children]
        if not scopes:
            return references, ports
        largest = max(len(node.sizes) for node in scopes)
        dissolved = {node for node in scopes if len(node.sizes) == largest}
        references, ports = (
            [inner for node in side for inner in (node.children if node in dissolved else (node,))]
            for side in (references, ports)
        )


def _apart(
    references: list[Node], ports: list[Node], fitting: list[frozenset[int]]
) -> list[tuple[list[Node], list[Node]]]:
    """Parts of the references that fit the same ports and no others do; all in one if there are no such."""
    parts = {
        places: [r for r, own in zip(references, fitting, strict=True) if own == places] for places in fitting
    }
    if sum(map(len, parts)) != len(ports) or any(len(places) != len(ours) for places, ours in parts.items()):
        return [(references, ports)]
    return [(ours, [ports[place] for place in sorted(places)]) for places, ours in parts.items()]


def _unmatched(references: Sequence[Node], ports: Sequence[Node]) -> Found:
    lost, strays = ([leaf for node in side for leaf in node.leaves] for side in (references, ports))
    return Found(lost=tuple(lost), strays=tuple(strays))


def _sum(parts: Iterable[Found]) -> Found:
    return sum(parts, Found())
