"""``mmckpt.load``: a model with its weights, from any checkpoint file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import nn

from mmckpt.errors import CheckpointNotFoundError, IncompatibleCheckpointError, UsageError
from mmckpt.files import open_file
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.converted import Wishes, chosen_weights
from mmckpt.files.distributed import METADATA
from mmckpt.files.fit import causes, compare, describe
from mmckpt.model_building import build_from_config, build_from_settings, flat_settings, model_config
from mmckpt.store import CheckpointStore
from mmckpt.store.find import find_checkpoint, split_spec
from mmckpt.store.unit import STATE


def load(source: str | os.PathLike, model: Any = None, *, weights: str = 'file', prefix: str = '',
         strict: bool = True, device: Any = 'cpu', **overrides: Any) -> nn.Module:
    """Load a model with its weights from a checkpoint of any kind.

    Nothing in the file is run. Where no model is given, it is built from the
    config that MMEngine keeps in its checkpoints.

    Args:
        source (str or Path): A checkpoint (MMEngine, mmcv, Lightning,
            hand-written, plain weights, safetensors); a work directory, of
            which the newest checkpoint that is sound is taken; or what to take
            of it, such as ``'work_dirs/run@best:AP'``.
        model (nn.Module or type or dict, optional): What to load into: a
            model; a class, which is built from the hyper-parameters in the
            file; a config of a registered model. Defaults to None, the model
            of the config in the file.
        weights (str): ``'file'`` for those that the file has as the model's,
            ``'ema'`` for averaged ones, ``'raw'`` for those in training.
            Defaults to 'file'.
        prefix (str): Beginning of the names in the file that the model's do
            not have, such as ``'net.'``; all others are left out. Defaults to ''.
        strict (bool): Whether every weight has to be there and to fit.
            Defaults to True.
        device (Any): Where the model is moved to. Defaults to 'cpu'.
        **overrides (Any): Settings of the model that go before those in the
            file: ``num_items=7000``, ``**{'head.num_classes': 20}``.

    Returns:
        nn.Module: The model, in evaluation mode. With MMEngine's files it has
        ``dataset_meta``.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is truncated or altered.
        IncompatibleCheckpointError: If it does not fit the model; the message
            groups what differs and names the probable cause.
        UsageError: If there is no way to know the model, or an override has
            no place in it.

    Example:
        >>> import mmckpt, tempfile
        >>> path = tempfile.mkdtemp() + '/net.pth'
        >>> torch.save(nn.Linear(2, 1).state_dict(), path)
        >>> mmckpt.load(path, nn.Linear(2, 1))
        Linear(in_features=2, out_features=1, bias=True)
    """
    path, note = file_of(source)
    if note:
        print_log(note, 'current')
    content = open_file(path)
    if content.dangerous:
        raise IncompatibleCheckpointError(
            f'{path} would call {next(iter(content.dangerous))} if it were loaded the old way: nothing was loaded. '
            f'Look at it with: mmckpt inspect {path}')
    checkpoint = to_mmengine(content, Wishes(weights_only=True)).checkpoint
    saved = chosen_weights(checkpoint, weights)
    if prefix:
        saved = {name[len(prefix):]: value for name, value in saved.items() if name.startswith(prefix)}
    built, made_with, passed = _model(path, model, checkpoint['meta'], overrides)
    _load_into(built, saved, path, strict, made_with, passed)
    if 'dataset_meta' in checkpoint['meta']:
        built.dataset_meta = checkpoint['meta']['dataset_meta']
    return built.to(device).eval()


def file_of(source: str | os.PathLike) -> tuple[Path, str]:
    """Return the file that a path, a work directory or ``DIR@SPEC`` stands for, and what to know about the choice.

    Raises:
        CheckpointNotFoundError: If there is none.
        CorruptCheckpointError: If there are some, but none that would do is sound.
    """
    text = os.path.expanduser(os.fspath(source))
    spec = split_spec(text)
    if spec is not None:
        found = find_checkpoint(*spec)
        return found.path, found.note or f'{text} is {found.path.name}'
    path = Path(text)
    if not path.is_dir() or (path / METADATA).is_file():
        return path, ''
    if (path / STATE).is_file():
        return path / STATE, f'{path} is in files which only the strategy that wrote them reads: this is the rest'
    newest = CheckpointStore.read(path).latest_valid()
    if newest is None:
        raise CheckpointNotFoundError(f'{path} holds no checkpoint that is sound; mmckpt ls {path} says what is there')
    return path / newest.name, f'the newest checkpoint of {path} that is sound is {newest.name}'


def _model(path: Path, model: Any, meta: Mapping[str, Any],
           overrides: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """Return the model, the settings of the one that was saved, and those of this one."""
    config = meta.get('cfg') if isinstance(meta.get('cfg'), str) else ''
    saved = model_config(config) or dict(meta.get('hyper_parameters') or {})
    made_with = dict(flat_settings(saved))
    if isinstance(model, nn.Module):
        if overrides:
            raise UsageError(f'{", ".join(overrides)} cannot be set on a model that is built already')
        own = {name: getattr(model, name) for name in made_with if isinstance(getattr(model, name, None), int)}
        return model, made_with, own
    if isinstance(model, type):
        arguments = {name: value for name, value in saved.items() if name != 'type'}
        return build_from_settings(model, arguments, overrides), made_with, {**made_with, **overrides}
    if isinstance(model, Mapping):
        asked = {**model, **overrides}
        return MODELS.build(asked), made_with, dict(flat_settings(asked))
    if model is not None:
        raise UsageError(f'model is a model, a class or a config, got a {type(model).__name__}')
    if not model_config(config):
        known = ', '.join(f'{name}={value!r}' for name, value in list(made_with.items())[:8])
        raise UsageError(f'{path} has no config to build the model from: pass model=... (a model, or its class'
                         + (f'; the file has {known})' if known else ')'))
    return build_from_config(config, overrides), made_with, {**made_with, **overrides}


def _load_into(model: nn.Module, saved: Mapping[str, torch.Tensor], path: Path, strict: bool,
               made_with: Mapping[str, Any], passed: Mapping[str, Any]) -> None:
    own = model.state_dict()
    fit = compare(own, saved)
    if (strict and not fit.is_whole) or not fit.common:
        reasons = ''.join(f'\n  probable cause: {text}' for text in causes(fit, own, saved, made_with, passed))
        raise IncompatibleCheckpointError(
            f'{path} does not fit {type(model).__name__}:{reasons}{describe(fit)}'
            + ('\nstrict=False takes over what fits.' if fit.common else ''))
    model.load_state_dict({name: value for name, value in saved.items()
                           if name in own and name not in fit.reshaped}, strict=False)
