"""Refuses wrong arguments of our classes by their keys in the config, before the Runner is built."""

from __future__ import annotations

import copy
import dis
import inspect
import re
import traceback
from collections.abc import Iterator
from operator import methodcaller
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import Registry

from mmckpt import registry
from mmckpt.errors import UsageError, near_matches

# MMEngine takes these out of an entry before it builds the class.
_TAKEN_BEFORE = ('type', '_scope_', 'priority', 'constructor', 'paramwise_cfg')


def check_arguments(cfg: Config) -> None:
    """Raise for an argument in a config that a class of ours does not have or does not take.

    Names are looked at wherever a ``type`` is a class of ours. Hooks and
    metrics, which need nothing but their arguments, are also built once, so
    that their own checks speak. What is wrong inside a constructor and no
    argument's fault keeps its exception, and with that its traceback.

    Args:
        cfg (Config): The config as the Runner gets it.

    Raises:
        UsageError: Which key, what was expected and found, and what to do.

    Example:
        >>> check_arguments(Config(dict(custom_hooks=[dict(type='mmckpt.PreemptionHook', time_limt='1h')])))
        Traceback (most recent call last):
        mmckpt.errors.UsageError: custom_hooks.0.time_limt: PreemptionHook has no argument 'time_limt'. Did you mean
            'time_limit'? Available: 'signals', 'time_limit'. Correct the config.
    """
    for place, entry in _entries(cfg, ()):
        kind = _own_class(entry['type'], place, cfg)
        if kind is None:
            continue
        given = {key: value for key, value in entry.items() if key not in _TAKEN_BEFORE}
        _check_names(kind, given, place, cfg)
        if inspect.isclass(kind) and issubclass(kind, (Hook, BaseMetric)):
            _check_values(kind, given, place, cfg)


def _entries(node: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, (dict, Config)):
        if 'type' in node:
            yield place, node
        children = list(node.items())
    elif isinstance(node, (list, tuple)):
        children = list(enumerate(node))
    else:
        return
    for key, child in children:
        yield from _entries(child, (*place, str(key)))


def _own_class(kind: Any, place: tuple[str, ...], cfg: Config) -> Any:
    """Return the class that a ``type`` stands for, or None if it is not one of ours."""
    if not isinstance(kind, str):
        return kind if getattr(kind, '__module__', '').split('.')[0] == 'mmckpt' else None
    scope, _, name = kind.rpartition('.')
    if scope != 'mmckpt' and (scope or cfg.get('default_scope') != 'mmckpt'):
        return None
    registries = [each for each in vars(registry).values() if isinstance(each, Registry)]
    if place[0] in ('default_hooks', 'custom_hooks'):
        registries = [registry.HOOKS]
    known: dict[str, Any] = {}
    for each in registries:
        each.import_from_location()
        known.update(each.module_dict)
    # MMEngine goes on to look among its own, so that mmckpt.EMAHook is its EMAHook.
    if scope and name not in known and not any(map(methodcaller('get', name), registries)):
        raise UsageError(f"{'.'.join(place)}.type: mmckpt has no {name!r}. {near_matches(name, known)} {_cure(cfg)}.")
    return known.get(name)


def _check_names(kind: Any, given: dict[str, Any], place: tuple[str, ...], cfg: Config) -> None:
    known = _keywords(kind)
    for key in given if known is not None else ():
        if key not in known:
            raise UsageError(f"{'.'.join((*place, key))}: {kind.__name__} has no argument {key!r}. "
                             f'{near_matches(key, known)} {_cure(cfg)}.')


def _keywords(kind: Any) -> list[str] | None:
    """Return the names of a constructor's arguments, its parents' too where it hands on the rest; None: of any name."""
    names: list[str] = []
    for owner in inspect.getmro(kind)[:-1] if inspect.isclass(kind) else [kind]:
        function = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if function is None:
            continue
        parameters = list(inspect.signature(function).parameters.values())[inspect.isclass(owner):]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return list(dict.fromkeys(names))
    return None


def _check_values(kind: Any, given: dict[str, Any], place: tuple[str, ...], cfg: Config) -> None:
    error = _refusal(kind, given)
    if error is None:
        return
    on_purpose = _is_a_check(error)
    if not on_purpose and not isinstance(error, TypeError):
        raise error
    said = str(error.args[0]) if error.args else str(error)
    if not on_purpose:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f'{said} (at {frame.filename}:{frame.lineno})'
    where = '.'.join((*place, *_blamed(kind, given, said)))
    raise UsageError(f"{where}: {said}{'' if said.endswith('.') else '.'} {_cure(cfg)}, or pass --cfg-options "
                     f'{where}=VALUE.') from error


def _blamed(kind: Any, given: dict[str, Any], said: str) -> list[str]:
    """Return the argument without which there is no error, if it is one; of several, the one that is spoken of."""
    blamed = [key for key in given if _refusal(kind, {k: v for k, v in given.items() if k != key}) is None]
    if len(blamed) != 1:
        blamed = [key for key in blamed or given if re.search(rf'\b{key}\b', said)]
    return blamed if len(blamed) == 1 else []


def _refusal(kind: Any, given: dict[str, Any]) -> Exception | None:
    # As the Runner does; a constructor may change what it gets.
    arguments = copy.deepcopy(given)
    try:
        kind(**arguments)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        return error
    return None


def _is_a_check(error: Exception) -> bool:
    """Whether code of ours or of MMEngine raised an exception on purpose, by a statement."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return False
    package = step.tb_frame.f_globals.get('__name__', '').split('.')[0]
    raised = dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] == 'RAISE_VARARGS'
    # Our own assertions are about our own mistakes.
    return raised and (package == 'mmengine' or package == 'mmckpt' and not isinstance(error, AssertionError))


def _cure(cfg: Config) -> str:
    return f"Correct {cfg.filename or 'the config'}"
