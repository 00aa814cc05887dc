"""Refuses versions of torch and MMEngine that this package cannot work with, before they fail in mid-run."""

from __future__ import annotations

import re

# The first version that works, and the first that does not; None where no such one is known.
# - torch before 2.6 can be made to run code even when told to read weights only (CVE-2025-32434), and its allow-list
#   takes no object under another name;
# - MMEngine before 0.10.5 has validation loops that know no losses.
SUPPORTED = {'torch': ('2.6', None), 'mmengine': ('0.10.5', '0.11')}


def check_version(package: str, found: str) -> None:
    """Refuse a version of a package that is not supported.

    Args:
        package (str): ``'torch'`` or ``'mmengine'``.
        found (str): Its version.

    Raises:
        RuntimeError: If it is too old or too new. Not an ImportError: MMEngine's registry would swallow that, and say
            that the hook does not exist.

    Example:
        >>> check_version('torch', '2.13.0+cpu')
        >>> check_version('torch', '2.5.1')
        Traceback (most recent call last):
        RuntimeError: mmckpt works with torch >= 2.6, but torch 2.5.1 is installed. Run: pip install 'torch>=2.6'
    """
    oldest, beyond = SUPPORTED[package]
    if _parts(oldest) <= _parts(found) and (beyond is None or _parts(found) < _parts(beyond)):
        return
    bounds = f'>={oldest}' + ('' if beyond is None else f',<{beyond}')
    works = f'>= {oldest}' + ('' if beyond is None else f', < {beyond}')
    raise RuntimeError(f'mmckpt works with {package} {works}, but {package} {found} is installed. Run: '
                       f"pip install '{package}{bounds}'")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', re.split(r'[+-]|a|b|rc|dev', version)[0]))
