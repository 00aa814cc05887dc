"""File names that carry values."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any, Callable

from mmckpt.errors import MetricNotFoundError, near_matches

SUFFIX = '.pth'
# Most file systems end at 255 bytes; temporary files add the name of the host, which may have 64, and more.
_MOST_BYTES = 120
_CONVERSIONS: dict[str, Callable[[Any], str]] = {'r': repr, 's': str, 'a': ascii}
_REFUSED = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


class FileTemplate:
    """A name with Python's format fields, as in ``'best_e{epoch:03d}_pck{PCK:.4f}'``.

    A field is the whole name of a metric (also ``{coco/AP:.3f}``), ``epoch``,
    ``iter`` (or ``step``), ``lr``, ``score``, ``name``, or a dotted path into
    the config. ``.pth`` is added where it is missing.

    Args:
        text (str): The template.

    Raises:
        ValueError: If it is not a template.

    Example:
        >>> template = FileTemplate('multi-vae-{epoch:02d}-{val_loss:.4f}')
        >>> template.name(dict(epoch=7, val_loss=0.25))
        'multi-vae-07-0.2500.pth'
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"filename must be a template such as 'best_e{{epoch:03d}}', but got {text!r}.")
        try:
            self._parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f'filename={text!r} is not a template: {error}. Write {{{{ and }}}} for braces.') from None
        self.text = text
        self.fields = tuple(field for _, field, _, _ in self._parts if field is not None)
        if any(not field or field.isdigit() for field in self.fields):
            raise ValueError(f'filename={text!r} has a field without a name: write the metric, epoch, iter, lr or a '
                             "config value into the braces, as in '{epoch:03d}'.")

    def name(self, values: Mapping[str, Any], may_miss: Iterable[str] = (),
             config: Mapping[str, Any] | None = None) -> str:
        """Return the file name for some values.

        Args:
            values (Mapping[str, Any]): Value of each field.
            may_miss (Iterable[str]): Fields that show ``nan`` where they have
                no value: metrics that some validations leave out. Defaults to ().
            config (Mapping[str, Any], optional): More values, which an error
                does not list. Defaults to None.

        Raises:
            MetricNotFoundError: If a field has no value.
            ValueError: If a value does not fit its format.
        """
        known = {**(config or {}), **values}
        unknown = [field for field in self.fields if field not in known and field not in set(may_miss)]
        if unknown:
            raise MetricNotFoundError(
                f'filename={self.text!r} names {unknown[0]!r}, which is neither a metric of this validation nor a '
                f'value of the config. {near_matches(unknown[0], values)}')
        return safe_name(''.join(self._filled(known)))

    def _filled(self, values: Mapping[str, Any]) -> Iterable[str]:
        for literal, field, spec, conversion in self._parts:
            yield literal
            if field is None:
                continue
            value = values.get(field, math.nan)
            value = _CONVERSIONS[conversion](value) if conversion else value
            try:
                yield format(value, spec or '')
            except (ValueError, TypeError) as error:
                raise ValueError(f'filename={self.text!r} cannot show {field}={value!r} as {{{field}:{spec}}}: '
                                 f'{error}.') from None


def safe_name(name: str) -> str:
    """Return a file name that every file system takes, with the suffix of a checkpoint.

    Example:
        >>> safe_name('best_coco/AP: 0.5'), safe_name('..hidden.pth')
        ('best_coco_AP_ 0.5.pth', '_.hidden.pth')
    """
    stem = name[:-len(SUFFIX)] if name.endswith(SUFFIX) else name
    stem = safe_characters(stem).strip()
    if stem.startswith('.') or not stem:
        stem = f'_{stem[1:]}'
    return f'{shortened(stem)}{SUFFIX}'


def shortened(text: str) -> str:
    """Return a part of a name that leaves room for the rest; what was too long ends in its digest.

    Example:
        >>> shortened('best'), len(shortened(500 * 'x'))
        ('best', 129)
    """
    if len(text.encode()) <= _MOST_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f'{text.encode()[:_MOST_BYTES].decode(errors="ignore")}-{digest}'


def safe_characters(text: str) -> str:
    """Replace the characters that some file system refuses.

    Example:
        >>> safe_characters('best_coco/AP_epoch_3.pth')
        'best_coco_AP_epoch_3.pth'
    """
    return _REFUSED.sub('_', text)


def told_apart(name: str, taken: Iterable[str]) -> str:
    """Return the name, or the first of ``-v2``, ``-v3``... that nobody has.

    Example:
        >>> told_apart('best.pth', ['best.pth', 'best-v2.pth'])
        'best-v3.pth'
    """
    used, (stem, suffix), count = set(taken), os.path.splitext(name), 1
    while name in used:
        count += 1
        name = f'{stem}-v{count}{suffix}'
    return name
