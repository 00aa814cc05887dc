"""The image functions of mmcv. The full package, which OpenMMLab projects need, serves as well as mmcv-lite."""

from mmckpt.extras import import_extra

mmcv = import_extra('mmcv')
BaseTransform = import_extra('mmcv.transforms').BaseTransform

__all__ = ['BaseTransform', 'mmcv']
