"""Rules by which names of weights become other names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmckpt.errors import UsageError

# Wrappers that put one more level above the model.
WRAPPERS = ('module.', '_orig_mod.', '_forward_module.')


@dataclass(frozen=True)
class KeyRules:
    """How names change.

    Args:
        prefixes (Sequence[tuple[str, str]]): Old and new beginning; the first that fits is used.
        patterns (Sequence[tuple[str, str]]): Regular expression and replacement, applied one after the other.
        dropped (Sequence[str]): Regular expressions of (old) names that are left out.

    Example:
        >>> rules = KeyRules(prefixes=[('net.', 'body.')], dropped=['^loss'])
        >>> rules.apply({'net.weight': 1, 'loss.weight': 2}).renamed
        {'body.weight': 1}
    """

    prefixes: Sequence[tuple[str, str]] = ()
    patterns: Sequence[tuple[str, str]] = ()
    dropped: Sequence[str] = ()

    def apply(self, weights: Mapping[str, Any]) -> Renaming:
        """Rename weights; wrappers' prefixes go first.

        Raises:
            UsageError: If two weights get one name, or a rule fits none.
        """
        found = Renaming()
        used: set[Any] = set()
        bare = without_wrapper(weights)
        for old, (name, value) in zip(weights, bare.items()):
            fitting = [text for text in self.dropped if re.search(text, name)]
            if fitting:
                used.update(fitting)
                found.dropped.append(name)
                continue
            new = self._rename(name, used)
            if new in found.renamed:
                raise UsageError(f'two weights become {new!r}; the second is {old!r}. Make the rules tell them apart.')
            found.renamed[new] = value
            found.changed += new != old
        idle = [rule for rule in [*self.dropped, *self.prefixes, *self.patterns] if rule not in used]
        if idle:
            shown = '=>'.join(idle[0]) if isinstance(idle[0], tuple) else idle[0]
            raise UsageError(f'the rule {shown!r} fits no weight. The names begin with '
                             + ', '.join(repr(name) for name in _beginnings(bare)[:8]) + '.')
        return found

    def _rename(self, name: str, used: set[Any]) -> str:
        for rule in self.prefixes:
            if name.startswith(rule[0]):
                used.add(rule)
                name = rule[1] + name[len(rule[0]):]
                break
        for rule in self.patterns:
            name, count = re.subn(*rule, name)
            if count:
                used.add(rule)
        return name


@dataclass
class Renaming:
    """What became of the names.

    Args:
        renamed (dict): Values by new name.
        dropped (list[str]): Names that were left out.
        changed (int): How many names are others now.
    """

    renamed: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    changed: int = 0


def without_wrapper(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights without the prefix that a wrapper has put before all names.

    Example:
        >>> without_wrapper({'module._orig_mod.w': 1, 'module._orig_mod.b': 2})
        {'w': 1, 'b': 2}
    """
    skip = _wrapper_length(weights)
    return {name[skip:]: value for name, value in weights.items()}


def read_rules(prefixes: Sequence[str], patterns: Sequence[str], dropped: Sequence[str]) -> KeyRules:
    """Read rules that were written as ``OLD=>NEW``.

    Raises:
        UsageError: If one has no ``=>`` or is no regular expression.

    Example:
        >>> read_rules(['model.=>'], [r'^(\\d+)=>layer\\1'], []).prefixes
        [('model.', '')]
    """
    for text in [*prefixes, *patterns]:
        if text.count('=>') != 1:
            raise UsageError(f"a rule is written 'OLD=>NEW', in quotes; got {text!r}")
    pairs = [[(t.partition('=>')[0], t.partition('=>')[2]) for t in texts] for texts in (prefixes, patterns)]
    for text in [*(old for old, _ in pairs[1]), *dropped]:
        try:
            re.compile(text)
        except re.error as error:
            raise UsageError(f'{text!r} is no regular expression: {error}') from error
    return KeyRules(pairs[0], pairs[1], list(dropped))


def _wrapper_length(weights: Mapping[str, Any]) -> int:
    skip = 0
    while weights:
        found = next((w for w in WRAPPERS if all(name.startswith(w, skip) for name in weights)), None)
        if found is None:
            break
        skip += len(found)
    return skip


def _beginnings(weights: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name.split('.')[0] + '.' if '.' in name else name for name in weights))
