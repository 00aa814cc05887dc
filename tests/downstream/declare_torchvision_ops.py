"""For an environment whose torchvision was built for CUDA and whose machine has none; run.sh installs it there.

``import torchvision`` looks for two operators that only its library defines. The trainings of these tests call
none of them, so it is enough that they are declared.
"""

import sys


class _DeclareOperators:
    def find_spec(self, name, path=None, target=None):
        if name == 'torchvision':
            sys.meta_path.remove(self)
            import torch
            for operator in ('nms', 'qnms'):
                torch.library.define(
                    f'torchvision::{operator}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')


sys.meta_path.insert(0, _DeclareOperators())
