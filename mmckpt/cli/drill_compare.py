"""Where two recorded runs part, and why; no Runner in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_OUTSIDE_THE_STATE = ('losses', 'sample order', 'data batches')


@dataclass(frozen=True)
class Part:
    """One part of two runs, compared at every iteration.

    Args:
        name (str): Such as ``'weights'``.
        entries (int): Tensors or values in it.
        parted (int or None): Completed iterations at which the runs first differ.
        where (tuple[str, ...]): The entries that differ there.
    """

    name: str
    entries: int
    parted: int | None = None
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attribute:
    """Something that a hook, a module or a data set remembers and no checkpoint holds.

    Args:
        path (str): Its owner and name, such as ``'CoolingHook.seen'``.
        expected (str): Its text in the straight run.
        found (str or None): Its text in the other one; None if it is not there.
    """

    path: str
    expected: str
    found: str | None

    @property
    def is_generator(self) -> bool:
        """Whether it is a random generator."""
        return self.expected.startswith('generator ')

    def __str__(self) -> str:
        if self.is_generator:
            return f'{self.path} (a random generator)'
        shown = ['nothing' if text is None else text.partition(' ')[2] or text
                 for text in (self.expected, self.found)]
        if any(len(text) > 30 for text in shown):
            return self.path
        return f'{self.path} ({shown[0]}, after the restart {shown[1]})'


@dataclass
class Comparison:
    """A span of iterations of two runs.

    Args:
        begin (int): Completed iterations at its beginning.
        parts (list[Part]): Losses and data first, then the state.
    """

    begin: int
    parts: list[Part] = field(default_factory=list)

    @property
    def differing(self) -> list[Part]:
        """The parts that differ, the earliest first; what an iteration begins with before what it gives."""
        found = [p for p in self.parts if p.parted is not None]
        return sorted(found, key=lambda part: (part.parted, part.name == 'losses'))

    @property
    def first(self) -> int | None:
        """Completed iterations at which any part first differs."""
        return self.differing[0].parted if self.differing else None

    @property
    def roots(self) -> list[str]:
        """Names of the parts that differ first; losses only if nothing that they come from does."""
        names = [p.name for p in self.differing if p.parted == self.first]
        return [name for name in names if name != 'losses'] or names

    def at(self, completed: int) -> dict[str, Part]:
        """The parts that first differ there, by name."""
        return {p.name: p for p in self.parts if p.parted == completed}


def compare(one: dict[int, Any], other: dict[int, Any], begin: int, end: int,
            noise: frozenset[tuple[str, str]] = frozenset()) -> Comparison:
    """Compare what two processes recorded from one iteration to another.

    Args:
        one (dict): A trace of ``RecordingHook``.
        other (dict): Another one.
        begin (int): Completed iterations to begin at.
        end (int): Completed iterations to end at, with the state there.
        noise (frozenset[tuple[str, str]]): Parts and entries to pass over.

    Example:
        >>> state = lambda w: {'state': {'weights': {'w': w}}, 'losses': {'loss': '1'}}
        >>> found = compare({0: state('a'), 1: state('b')}, {0: state('a'), 1: state('c')}, 0, 1)
        >>> found.first, found.differing[0].name, found.differing[0].where
        (1, 'weights', ('w',))
    """
    names = [*_OUTSIDE_THE_STATE, *one[begin]['state']]
    return Comparison(begin, [_compare_part(name, one, other, begin, end, noise) for name in names])


def lost_attributes(straight: dict[str, str], first: dict[str, str], resumed: dict[str, str]
                    ) -> list[Attribute]:
    """Find what two runs of one history agree on at the restart, and the resumed process does not know.

    What differs between the two that were never restarted (a clock, a path) is no state.

    Example:
        >>> [lost] = lost_attributes({'Hook.seen': 'int 5', 'Hook.t': 'float 1'},
        ...                          {'Hook.seen': 'int 5', 'Hook.t': 'float 2'}, {'Hook.seen': 'int 0'})
        >>> str(lost)
        'Hook.seen (5, after the restart 0)'
    """
    return [Attribute(path, text, resumed.get(path)) for path, text in straight.items()
            if first.get(path) == text and resumed.get(path) != text]


def unlike_generators(straight: dict[str, str], first: dict[str, str]) -> list[Attribute]:
    """Find the random generators that two runs which were started alike do not agree on."""
    return [Attribute(path, text, first.get(path)) for path, text in straight.items()
            if text.startswith('generator ') and first.get(path) != text]


def noise_of(one: dict[int, Any], other: dict[int, Any], end: int) -> frozenset[tuple[str, str]]:
    """Return what differs in message hub and hooks between two runs of one history: clocks, paths."""
    return frozenset((part, path) for n in range(end + 1) if n in one and n in other
                     for part in ('message hub', 'hooks')
                     for path in _differing(*(trace[n]['state'][part] for trace in (one, other))))


def _compare_part(name: str, one: dict[int, Any], other: dict[int, Any], begin: int, end: int,
                  noise: frozenset[tuple[str, str]]) -> Part:
    entries = 0
    for n in range(begin, end + 1):
        mine, theirs = (_entries(trace[n], name) for trace in (one, other))
        # Losses belong to the iteration that follows, and the last state is followed by none.
        if n == end and name in _OUTSIDE_THE_STATE:
            break
        entries = max(entries, len(mine))
        where = [path for path in _differing(mine, theirs) if (name, path) not in noise]
        if where:
            return Part(name, entries, n, tuple(where))
    return Part(name, entries)


def _entries(seen: dict[str, Any], name: str) -> dict[str, str]:
    if name == 'losses':
        return seen.get('losses', {})
    if name == 'sample order':
        return {'indices': seen['samples']} if 'samples' in seen else {}
    if name == 'data batches':
        return {'batch': seen['batch']} if 'batch' in seen else {}
    return seen['state'][name]


def _differing(one: dict[str, str], other: dict[str, str]) -> Iterable[str]:
    return (path for path in dict.fromkeys([*one, *other]) if one.get(path) != other.get(path))
