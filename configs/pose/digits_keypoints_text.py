# How does a project with text-style configs (``_base_ = [...]``) use mmckpt? It inherits one more file.
#
#     python tools/train.py configs/pose/digits_keypoints_text.py
#
# The same training as digits_keypoints.py, with the recommended hooks as they are.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/safe_runtime.py',
    '../_base_/models/keypoint_net.py',
    '../_base_/datasets/digits_keypoints.py',
    '../_base_/schedules/adamw_20e.py',
]

work_dir = 'work_dirs/20261124_digits_keypoints_text'

default_hooks = dict(checkpoint=dict(save_best=['AP', 'PCK'], rule='greater'))
