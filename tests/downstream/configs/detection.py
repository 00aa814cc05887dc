# MMDetection's own RetinaNet config on four images.
_base_ = ['mmdet::retinanet/retinanet_r18_fpn_1x_coco.py']

data = dict(data_root='data/coco/', ann_file='annotations.json', data_prefix=dict(img='images/'),
            metainfo=dict(classes=('person',)))
model = dict(backbone=dict(init_cfg=None, frozen_stages=-1), bbox_head=dict(num_classes=1),
             # An untrained head gives scores of 0.01, and MMDetection no metric where there is no box.
             test_cfg=dict(score_thr=0.0))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 64), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **data))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/coco/annotations.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=4)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=4, save_best='coco/bbox_mAP', rule='greater'))
