# What ``mmckpt train --safe`` adds, asked for by the config itself:
#
#     _base_ = ['mmpose::body_2d_keypoint/.../td-hm_res50_8xb64-210e_coco-256x192.py', 'mmckpt::_base_/safe.py']
#
# Text-style bases must not set one key twice, and every project's runtime sets ``default_hooks``; so this is a
# word to ``mmckpt train`` and ``mmckpt quick-check``, which then change what is in the config. Another train.py
# does not know the word: inherit safe_runtime.py there, which lists the hooks.
mmckpt_safe = True
