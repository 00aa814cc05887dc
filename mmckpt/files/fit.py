"""Whether saved weights fit a model, and if not, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmckpt.files.key_rules import WRAPPERS

_MOST_SHOWN = 5


@dataclass(frozen=True)
class Fit:
    """How saved weights and those of a model differ.

    Args:
        missing (list[str]): Names that only the model has.
        unexpected (list[str]): Names that only the file has.
        reshaped (dict[str, tuple]): Shapes in the file and in the model, by name.
        common (int): Names that both have.
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    common: int

    @property
    def is_whole(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.unexpected or self.reshaped)


def compare(own: Mapping[str, Any], saved: Mapping[str, Any]) -> Fit:
    """Compare a model's ``state_dict`` with saved weights.

    Args:
        own (Mapping[str, Tensor]): The model's.
        saved (Mapping[str, Tensor]): The file's.
    """
    both = [name for name in own if name in saved]
    reshaped = {name: (tuple(saved[name].shape), tuple(own[name].shape)) for name in both
                if tuple(saved[name].shape) != tuple(own[name].shape)}
    return Fit([name for name in own if name not in saved], [name for name in saved if name not in own], reshaped,
               len(both))


def describe(fit: Fit) -> str:
    """Return the differences, grouped, one line a name."""
    shapes = [f'{name}: {saved} in the file, {own} in the model' for name, (saved, own) in fit.reshaped.items()]
    return ''.join(_group(title, names) for title, names in (
        ('missing in the file', fit.missing), ('unknown to the model', fit.unexpected), ('of another shape', shapes)))


def causes(fit: Fit, own: Mapping[str, Any], saved: Mapping[str, Any], made_with: Mapping[str, Any],
           passed: Mapping[str, Any]) -> Iterator[str]:
    """Yield what probably explains a misfit, and what to do.

    Args:
        fit (Fit): The differences.
        own (Mapping[str, Tensor]): The model's ``state_dict``.
        saved (Mapping[str, Tensor]): The file's weights.
        made_with (Mapping[str, Any]): Settings of the model that was saved, by dotted name.
        passed (Mapping[str, Any]): Those of the model at hand.

    Example:
        >>> import torch
        >>> own, saved = {'e.weight': torch.ones(7000, 2)}, {'e.weight': torch.ones(6807, 2)}
        >>> next(causes(compare(own, saved), own, saved, {'num_items': 6807}, {'num_items': 7000}))
        'num_items is 6807 in the file and 7000 here; pass num_items=6807'
    """
    yield from _prefix(own, saved)
    sizes = Counter((a, b) for before, now in fit.reshaped.values() if len(before) == len(now)
                    for a, b in zip(before, now) if a != b)
    explained = set()
    for (before, now), _ in sizes.most_common(3):
        names = [name for name, value in made_with.items() if type(value) is int and value == before
                 and passed.get(name, now) != value]
        for name in names[:3]:
            here = passed[name] if name in passed else now
            explained.add((before, now))
            yield f'{name} is {before} in the file and {here} here; pass {_argument(name, before)}'
    for (before, now), count in sizes.most_common(1):
        if (before, now) not in explained:
            names = ', '.join(list(fit.reshaped)[:3])
            yield (f'{count} tensor(s) ({names}) have {before} where the model has {now}: another number of classes or '
                   'items, or another width')
    averages = [name for name in fit.unexpected if 'ema' in name.lower()]
    if averages and len(averages) == len(fit.unexpected):
        yield f"the file has averaged weights (EMA) beside the model's, such as {averages[0]}: strict=False drops them"


def _prefix(own: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[str]:
    if not own or not saved or any(name in saved for name in own):
        return
    first = next(iter(own))
    for name in saved:
        if name.endswith(first):
            prefix = name[:-len(first)]
            found = sum(prefix + other in saved for other in own)
            if prefix and found > len(own) / 2:
                yield (f'the names in the file begin with {prefix!r} ({found} of {len(own)} then fit); '
                       f'pass prefix={prefix!r}')
                return
    first = next(iter(saved))
    for name in own:
        if name.endswith(first) and sum(name[:-len(first)] + other in own for other in saved) > len(saved) / 2:
            prefix = name[:-len(first)]
            part = f'model.{prefix.rstrip(".")}'
            wrapper = 'the model is wrapped' if prefix in WRAPPERS else f'the file holds its part {prefix.rstrip(".")}'
            yield f'{wrapper}: the names of the model begin with {prefix!r}; pass {part} as the model'
            return


def _argument(name: str, value: int) -> str:
    return f'{name}={value}' if name.isidentifier() else f"**{{'{name}': {value}}}"


def _group(title: str, names: list[str]) -> str:
    if not names:
        return ''
    shown = ''.join(f'\n    {name}' for name in names[:_MOST_SHOWN])
    more = f'\n    ... and {len(names) - _MOST_SHOWN} more' if len(names) > _MOST_SHOWN else ''
    return f'\n  {len(names)} {title}:{shown}{more}'
