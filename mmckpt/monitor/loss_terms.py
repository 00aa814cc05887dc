"""Finds loss terms that do no work: always zero, constant, missing, or out of all proportion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmckpt.monitor.blocks import BLOCK_ITERS, Block
from mmckpt.monitor.finding import Finding, Severity
from mmckpt.monitor.versioned import VERSION, check_version
from mmckpt.progress import Progress

DEFAULT_RATIO = 1000.0


class LossTermsDetector:
    """Fires for a loss term that is constant, that is not computed, or that is out of scale.

    A term that has been exactly 0 since the start is a warning (its target
    may never be there, or its weight be 0), as is one that is any other
    constant, and one that is not there; one that *became* 0 is an info, since
    a hinge does that once it is satisfied. Terms of very different size are
    an info by default, and a warning with an explicit ``ratio``.

    Args:
        blocks (int): Blocks of 50 iterations in a row for which it must be
            so; at least 1. Defaults to 4.
        ratio (float, optional): Ratio of the largest to the smallest term
            above which they are out of scale. Defaults to None, which means
            1000 and an info.
        expected (Iterable[str]): Terms that the model must give. Defaults to ().

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from mmckpt.monitor.blocks import summarise
        >>> detector = LossTermsDetector(blocks=1)
        >>> block = {'loss_a': summarise([1.0, 2.0]), 'vis_dist_loss': summarise([0.0, 0.0])}
        >>> print(detector.update(block, Progress(0, 50))[0].message)
        Dead loss term at iter 50: vis_dist_loss has been exactly 0 since the start (50 iterations).
    """

    def __init__(self, blocks: int = 4, ratio: float | None = None, expected: Iterable[str] = ()) -> None:
        if blocks < 1:
            raise ValueError(f'blocks must be at least 1, but got {blocks}.')
        if ratio is not None and not ratio > 1:
            raise ValueError(f'ratio must be above 1, but got {ratio}.')
        self.blocks = blocks
        self.ratio = DEFAULT_RATIO if ratio is None else ratio
        self.expected = (expected,) if isinstance(expected, str) else tuple(expected)
        self._scale_severity: Severity = 'info' if ratio is None else 'warning'
        # Of each term: its last constant value, for how many blocks it has been so, and whether it ever was not.
        self._constant: dict[str, list[Any]] = {}
        self._absent: dict[str, int] = {}
        self._unequal = 0

    def update(self, values: Mapping[str, Block], progress: Progress) -> list[Finding]:
        """Take the blocks of all scalars; return what is wrong with the loss terms."""
        terms = {name: block for name, block in values.items()
                 if 'loss' in name.lower() and name != 'loss' and block.finite}
        findings = [finding for name, block in terms.items() for finding in self._judge(name, block, progress)]
        for name in {**dict.fromkeys(self.expected), **self._constant}:
            self._absent[name] = 0 if name in values else self._absent.get(name, 0) + 1
            if self._absent[name] >= self.blocks:
                findings.append(self._missing(name, progress))
        return findings + self._scales(terms, progress)

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of each term, in plain types."""
        return {'version': VERSION, 'constant': {name: list(row) for name, row in self._constant.items()},
                'absent': dict(self._absent), 'unequal': self._unequal}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        check_version(state, type(self).__name__)
        self._constant = {name: list(row) for name, row in state['constant'].items()}
        self._absent, self._unequal = dict(state['absent']), state['unequal']

    def _judge(self, name: str, block: Block, progress: Progress) -> list[Finding]:
        row = self._constant.setdefault(name, [None, 0, False])
        if block.low != block.high:
            row[:] = [None, 0, True]
            return []
        same = row[0] == block.low
        row[:] = [block.low, row[1] + 1 if same else 1, row[2] or row[0] not in (None, block.low)]
        return [_dead(name, block.low, row[1] * BLOCK_ITERS, row[2], progress)] if row[1] >= self.blocks else []

    def _missing(self, name: str, progress: Progress) -> Finding:
        was = 'is not computed any more' if name in self._constant else 'has never been computed'
        return Finding(
            'loss_term_missing', 'warning', name,
            f'Missing loss term at iter {progress.iter}: {name} {was} '
            f'({self._absent[name] * BLOCK_ITERS} iterations).', progress)

    def _scales(self, terms: Mapping[str, Block], progress: Progress) -> list[Finding]:
        sizes = {name: block.mean for name, block in terms.items() if block.mean > 0}
        if len(sizes) < 2:
            return []
        large, small = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        ratio = sizes[large] / sizes[small]
        self._unequal = self._unequal + 1 if ratio > self.ratio else 0
        if self._unequal < self.blocks:
            return []
        return [Finding(
            'loss_scale', self._scale_severity, small,
            f'Loss terms out of scale at iter {progress.iter}: {large} is {sizes[large]:.6g}, {small} '
            f'{sizes[small]:.6g}, ratio {ratio:.0f}.',
            progress, ratio, {'largest': sizes[large], 'smallest': sizes[small], 'ratio': ratio})]


def _dead(name: str, value: float, iters: int, alive_before: bool, progress: Progress) -> Finding:
    since = f'for {iters} iterations' if alive_before else f'since the start ({iters} iterations)'
    severity: Severity = 'info' if value == 0 and alive_before else 'warning'
    what = 'exactly 0' if value == 0 else f'the same number, {value:.6g},'
    return Finding('loss_term_dead', severity, name,
                   f'Dead loss term at iter {progress.iter}: {name} has been {what} {since}.',
                   progress, 0.0, {'value': value, 'iterations': float(iters)})
