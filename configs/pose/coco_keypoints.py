# How do I train the small key-point detector on my own data in COCO's key-point format?
#
#     COCO_ROOT=/data/coco/ python tools/train.py configs/pose/coco_keypoints.py
#
# or edit the first variables below. Top-down: every labelled person (or animal, or object) is cut
# out by its box. It shows the way from a COCO file to AP; a network of 157 thousand parameters does
# not compete with a real pose model.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/safe_runtime.py',
    '../_base_/models/keypoint_net.py',
    '../_base_/schedules/adamw_20e.py',
]

# what to set for another data set
data_root = '{{$COCO_ROOT:data/coco/}}'
train_ann_file = 'annotations/person_keypoints_train2017.json'
train_img_prefix = 'train2017/'
val_ann_file = 'annotations/person_keypoints_val2017.json'
val_img_prefix = 'val2017/'
num_keypoints = 17
# Other than 17 key points need their OKS sigmas: dict(sigmas=[0.05, 0.07, ...]).
metainfo = dict()

# runtime
work_dir = 'work_dirs/20261124_coco_keypoints_baseline'

# model
input_size = (96, 128)
heatmap_size = (48, 64)
model = dict(num_keypoints=num_keypoints)

# data
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TopdownCrop', input_size=input_size),
    dict(type='RandomScaleShift', scale=(0.75, 1.15), aspect=0.1, shift=9),
    dict(type='RandomFlipKeypoints', prob=0.5),
    dict(type='PhotometricJitter', gain=(0.7, 1.3), noise=10),
    dict(type='GenerateHeatmap', heatmap_size=heatmap_size, sigma=2.0),
    dict(type='PackKeypointInputs'),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TopdownCrop', input_size=input_size),
    dict(type='GenerateHeatmap', heatmap_size=heatmap_size, sigma=2.0),
    dict(type='PackKeypointInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        type='DeterministicDataset',
        dataset=dict(
            type='CocoKeypointDataset',
            data_root=data_root,
            ann_file=train_ann_file,
            data_prefix=dict(img=train_img_prefix),
            metainfo=metainfo,
            pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoKeypointDataset',
        data_root=data_root,
        ann_file=val_ann_file,
        data_prefix=dict(img=val_img_prefix),
        metainfo=metainfo,
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    # As COCO does it, except that persons without a labelled key point are not asked for.
    dict(type='KeypointAP'),
    dict(type='PCK', threshold=0.1),
]
test_evaluator = val_evaluator

# hooks
default_hooks = dict(checkpoint=dict(save_best=['AP', 'PCK'], rule='greater'))
