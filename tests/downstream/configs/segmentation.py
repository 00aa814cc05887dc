# MMSegmentation's own FCN config, which trains by iterations, on four images.
_base_ = ['mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py']

norm_cfg = dict(type='BN', requires_grad=True)
crop_size = (64, 64)
model = dict(pretrained=None, data_preprocessor=dict(size=crop_size), backbone=dict(norm_cfg=norm_cfg),
             decode_head=dict(norm_cfg=norm_cfg, num_convs=1), auxiliary_head=dict(norm_cfg=norm_cfg))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75), dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2, dataset=dict(data_root='data/cityscapes/', pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(data_root='data/cityscapes/', pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=16, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4, max_keep_ckpts=4, save_best='mIoU', rule='greater'))
