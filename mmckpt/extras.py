"""Optional packages, imported at first use with an error that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str = 'demo') -> ModuleType:
    """Import a module that only an optional extra of mmckpt installs.

    Args:
        module (str): Dotted name, such as ``'pycocotools.coco'``.
        extra (str): The extra that installs it. Defaults to ``'demo'``.

    Returns:
        module: The imported module.

    Raises:
        ImportError: If the package is missing; the message holds the command
            that installs it.

    Example:
        >>> import_extra('json').dumps({'AP': 0.5})
        '{"AP": 0.5}'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split('.')[0]
        raise ImportError(
            f"expected the package '{package}', which is not importable here ({error}); "
            f"install it with: pip install 'mmckpt[{extra}]'") from error
