"""From a config file and options to a Runner."""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmckpt.cli.packages import config_of_package, make_configs_known
from mmckpt.errors import UsageError, near_matches

_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def read_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and merge ``--cfg-options`` into it.

    Args:
        path (str): The config file, or one of an installed package: ``'mmpose::...'``.
        options (dict, optional): Dotted keys and values. Defaults to None.

    Modules that it imports (``custom_imports``) are also looked for in the
    directory in which the command was started.

    Returns:
        Config: The merged config.

    Raises:
        UsageError: If the file is not there, not a config or not Python, or an option does not fit it.
    """
    make_configs_known()
    _find_modules_here()
    cfg = config_of_package(path) if '::' in path else _config_of_file(path)
    if options:
        merge_options(cfg, options)
    return cfg


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge dotted options; the index one past the end of a list appends to it.

    Raises:
        UsageError: If a key runs through a value that is neither a dict nor a
            list, or beyond the end of a list.

    Example:
        >>> cfg = Config(dict(custom_hooks=[dict(type='EMAHook')]))
        >>> merge_options(cfg, {'custom_hooks.1.type': 'SyncBuffersHook', 'custom_hooks.0.momentum': 0.01})
        >>> cfg.custom_hooks
        [{'type': 'EMAHook', 'momentum': 0.01}, {'type': 'SyncBuffersHook'}]
    """
    for key in options:
        _append_where_new(cfg, key)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(
            f"--cfg-options {' '.join(f'{k}={v}' for k, v in options.items())} does not fit the config: "
            f'{error.args[0] if error.args else error}') from error


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set ``cfg.work_dir``: the argument, else the config's, else ``work_dirs/<config name>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename).stem)


def check_writable(directory: str) -> None:
    """Make a directory and prove that files can be written there, before training costs time.

    Raises:
        UsageError: If it cannot be made or written.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(f'cannot write into the work directory {directory}: {error.strerror}. '
                         'Pass another one as --work-dir, or change its permissions.') from error


def build_runner(cfg: Config) -> Any:
    """Build the Runner that a config asks for, as the tools of OpenMMLab projects do."""
    if 'preprocess_cfg' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.preprocess_cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def type_name(spec: Any) -> str:
    """Return the class name that a config entry or a type stands for, without its scope.

    Example:
        >>> type_name(dict(type='mmengine.EMAHook')), type_name(Runner), type_name(None)
        ('EMAHook', 'Runner', '')
    """
    if isinstance(spec, dict):
        spec = spec.get('type')
    if isinstance(spec, str):
        return spec.rpartition('.')[2]
    return getattr(spec, '__name__', '')


def configured_hooks(cfg: Config) -> list[Any]:
    """Return the entries of ``default_hooks`` and ``custom_hooks``."""
    default = [hook for hook in (cfg.get('default_hooks') or {}).values() if hook is not None]
    return default + list(cfg.get('custom_hooks') or [])


def _config_of_file(path: str) -> Config:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f'config file {path} {_what_is_there(file)}')
    if file.suffix not in _SUFFIXES:
        raise UsageError(f"a config ends in {', '.join(_SUFFIXES)}, got {path}")
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        name = error.filename
        if name in (None, '<unknown>'):
            # MMEngine parses the text, so that Python does not know where it is from.
            name = f'a base of {path}' if _is_python(path) else path
        raise UsageError(f'{name}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}') from error


def _is_python(path: str) -> bool:
    try:
        ast.parse(Path(path).read_text(encoding='utf-8'))
    except SyntaxError:
        return False
    return True


def _find_modules_here() -> None:
    """Let modules of the project be imported; of an installed command Python looks only where that lies."""
    here = os.getcwd()
    if not {'', here} & set(sys.path):
        sys.path.append(here)


def _what_is_there(file: Path) -> str:
    if file.is_dir():
        file, reason = file / '', 'is a directory. '
    elif not file.parent.is_dir():
        return f'does not exist, nor does the directory {file.parent}; this is {Path.cwd()}.'
    else:
        reason = 'does not exist. '
    directory = file if file.is_dir() else file.parent
    return reason + near_matches(file.name, [f.name for f in directory.glob('*.py')])


def _append_where_new(cfg: Config, key: str) -> None:
    node: Any = cfg
    for part in key.split('.'):
        if isinstance(node, list):
            if not part.isdigit() or int(part) > len(node):
                return
            if int(part) == len(node):
                node.append(ConfigDict())
            node = node[int(part)]
        elif isinstance(node, (dict, Config)) and part in node:
            node = node[part]
        else:
            return
