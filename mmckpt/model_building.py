"""Models built from what a checkpoint says of them, without running anything that it says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import get_object_from_string, import_modules_from_strings
from torch import nn

from mmckpt.errors import IncompatibleCheckpointError, UsageError, near_matches
from mmckpt.state.config_diff import read_config_text


def model_config(config: str) -> dict[str, Any]:
    """Return the model's part of a config's text, which is read and not run.

    Args:
        config (str): ``meta['cfg']`` of a checkpoint.

    Returns:
        dict: Its ``model``, with the preprocessor that some configs keep
        beside it; {} if there is none.
    """
    try:
        cfg = read_config_text(config)
    except ValueError:
        return {}
    model = cfg.get('model')
    if not isinstance(model, dict) or 'type' not in model:
        return {}
    for key in ('preprocess_cfg', 'data_preprocessor'):
        if isinstance(cfg.get(key), dict):
            model = {'data_preprocessor': cfg[key], **model}
    return model


def build_from_config(config: str, overrides: Mapping[str, Any]) -> nn.Module:
    """Build a model from the text of a config.

    Types are looked up in MMEngine's registries. The modules that the config
    names (``custom_imports``, its scope) are imported: they are installed
    here. A type that is neither registered nor a ``nn.Module`` is refused, so
    that no file can have a function called.

    Args:
        config (str): ``meta['cfg']`` of a checkpoint.
        overrides (Mapping[str, Any]): Values by dotted name, such as ``{'head.num_classes': 20}``.

    Raises:
        IncompatibleCheckpointError: If the model cannot be built.
        UsageError: If an override has no place in it.
    """
    cfg, model = read_config_text(config), model_config(config)
    for name, value in overrides.items():
        _set(model, name, value)
    scope = cfg.get('default_scope')
    try:
        _import_modules(cfg)
        with DefaultScope.overwrite_default_scope(scope if isinstance(scope, str) else 'mmengine'):
            for kind in _types(model):
                _check_type(kind)
            return MODELS.build(model)
    except (ImportError, KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise IncompatibleCheckpointError(
            f"the model of type {model['type']!r} cannot be built from the config in the file "
            f'({type(error).__name__}: {str(error)[:300]}). Install or import the project that has it, or pass '
            'model=... built by yourself.') from error


def config_of_checkpoint(text: str) -> dict[str, Any]:
    """Return a whole config of which only the text in a checkpoint is left; the text is read and not run.

    Args:
        text (str): ``meta['cfg']`` of a checkpoint.

    Raises:
        IncompatibleCheckpointError: If building it would call what is not registered.
        ImportError: If a module of its ``custom_imports`` is not there.
        ValueError: If it is no config.
    """
    cfg = read_config_text(text)
    _import_modules(cfg)
    for kind in _types(cfg):
        _check_type(kind)
    return cfg


def build_from_settings(kind: type, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> nn.Module:
    """Build a model of a class from saved hyper-parameters.

    Args:
        kind (type): The class, such as a ``LightningModule``.
        settings (Mapping[str, Any]): What the file says; what the class does not take is left out.
        overrides (Mapping[str, Any]): Arguments that go before those.

    Raises:
        UsageError: If an argument has no value, or an override is none of its arguments.
        IncompatibleCheckpointError: If the class raises.
    """
    parameters = inspect.signature(kind).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [name for name in overrides if name not in parameters and not takes_all]
    if unknown:
        raise UsageError(f'{kind.__name__} has no argument {unknown[0]!r}. {near_matches(unknown[0], parameters)}')
    arguments = {name: value for name, value in {**settings, **overrides}.items()
                 if name in parameters or (takes_all and isinstance(name, str))}
    absent = [p.name for p in parameters.values()
              if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in arguments]
    if absent:
        raise UsageError(f'{kind.__name__} needs {", ".join(absent)}, and the file does not say: pass '
                         + ', '.join(f'{name}=...' for name in absent))
    try:
        return kind(**arguments)
    except Exception as error:
        raise IncompatibleCheckpointError(
            f'{kind.__name__} cannot be built with {arguments} ({type(error).__name__}: {error})') from error


def flat_settings(settings: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested settings by dotted name.

    Example:
        >>> dict(flat_settings({'head': {'num_classes': 80, 'loss': {'type': 'L1'}}}))
        {'head.num_classes': 80, 'head.loss.type': 'L1'}
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from flat_settings(value, f'{name}.{key}' if name else str(key))
    else:
        yield name, settings


def _import_modules(cfg: Mapping[str, Any]) -> None:
    imports = cfg.get('custom_imports')
    if isinstance(imports, dict) and imports.get('imports'):
        import_modules_from_strings(imports['imports'], bool(imports.get('allow_failed_imports')))


def _set(model: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split('.')
    node: Any = model
    for key in path:
        if not isinstance(node, dict) or not isinstance(node.get(key), dict):
            raise UsageError(f'the model has no part {name!r}: there is no {key!r}. '
                             + near_matches(key, node if isinstance(node, dict) else ()))
        node = node[key]
    node[last] = value


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get('type'), str):
            yield value['type']
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _types(item)


def _check_type(kind: str) -> None:
    """Refuse a dotted name that is no class made to be built from a config."""
    if '.' not in kind or MODELS.get(kind) in _registered():
        return
    found = get_object_from_string(kind)
    if found is None:
        return
    if found not in _registered() and not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise IncompatibleCheckpointError(
            f'the config in the file would have {kind} called, which is neither a model nor registered: it is hostile, '
            'or made by something unusual. Pass model=... built by yourself.')


def _registered() -> set[Any]:
    from mmengine import registry

    found: set[Any] = set()
    pending = [item for item in vars(registry).values() if isinstance(item, registry.Registry)]
    while pending:
        one = pending.pop()
        found.update(item for item in one.module_dict.values() if inspect.isclass(item) or inspect.isfunction(item))
        pending.extend(one.children.values())
    return found
