# MMPose's own top-down config, with a small backbone and four images.
_base_ = ['mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py']

data = dict(data_root='data/coco/', ann_file='annotations.json', data_prefix=dict(img='images/'))
codec = dict(type='MSRAHeatmap', input_size=(64, 96), heatmap_size=(16, 24), sigma=2)
model = dict(backbone=dict(depth=18, init_cfg=None), head=dict(in_channels=512, decoder=codec))
train_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform'), dict(type='TopdownAffine', input_size=(64, 96)),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
val_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='TopdownAffine', input_size=(64, 96)),
    dict(type='PackPoseInputs')]
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                      dataset=dict(bbox_file=None, pipeline=val_pipeline, **data))
test_dataloader = val_dataloader
val_evaluator = [dict(type='CocoMetric', ann_file='data/coco/annotations.json'), dict(type='PCKAccuracy', thr=0.5)]
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=4, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=4, save_best=['coco/AP', 'PCK'], rule='greater'))
