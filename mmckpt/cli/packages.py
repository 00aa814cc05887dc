"""Configs that travel in packages: ``mmpose::...``, ``mmckpt::...``, ``from mmckpt.configs... import *``."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from mmengine.config import Config, config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config, hub
from mmengine.utils import get_installed_path, is_installed

import mmckpt
from mmckpt.errors import UsageError, near_matches

_HERE = os.path.dirname(os.path.abspath(mmckpt.__file__))


def make_configs_known() -> None:
    """Let MMEngine find ``mmckpt::PATH``, and our configs where mmckpt is installed with ``pip install -e``.

    MMEngine looks such a name up in a table of its own, and the directory of
    the package beside its metadata, where an editable install has no files.
    """
    MODULE2PACKAGE.setdefault('mmckpt', 'mmckpt')
    with warnings.catch_warnings():
        # MMEngine needs it, so its removal is known.
        warnings.filterwarnings('ignore', message='pkg_resources is deprecated', category=UserWarning)
        import pkg_resources  # noqa: F401
    for reader in (config, hub):
        # MMEngine reads the list of installed packages anew at each look, so that nothing put into it would stay.
        reader.get_installed_path = _installed_path


def _installed_path(package: str) -> str:
    return _HERE if package == 'mmckpt' else get_installed_path(package)


def config_of_package(name: str) -> Config:
    """Read a config of an installed package.

    Args:
        name (str): Such as ``'mmpose::body_2d_keypoint/topdown_heatmap/coco/NAME.py'``.

    Returns:
        Config: The config.

    Raises:
        UsageError: If the package is not known or not installed, or has no such config.

    Example:
        >>> make_configs_known()
        >>> config_of_package('mmckpt::_base_/safe.py').mmckpt_safe
        True
    """
    package, _, path = name.partition('::')
    if package not in MODULE2PACKAGE:
        raise UsageError(f'{name}: MMEngine knows no configs of {package}. {near_matches(package, MODULE2PACKAGE)}')
    # MMEngine would install the package instead.
    if not is_installed(MODULE2PACKAGE[package]):
        raise UsageError(f'{name}: the package {MODULE2PACKAGE[package]} is not installed here; install it first.')
    try:
        return get_config(name)
    except (FileNotFoundError, ValueError) as error:
        file = Path(_installed_path(MODULE2PACKAGE[package]), '.mim', 'configs', path)
        there = [f.name for f in file.parent.glob('*.py')]
        where = near_matches(file.name, there) if there else f'The package has no directory {file.parent}.'
        raise UsageError(f'{name}: {error}. {where}') from error
