# One picture of Middlebury 2014 from scikit-image's wheel, in windows: columns 64 to 306 train, 306 to 370 validate.
train_pipeline = [
    dict(type='CutDepthWindow', jitter=8),
    dict(type='RandomFlipDepth', prob=0.5),
    dict(type='RandomBrightness', gain=(0.8, 1.2)),
    dict(type='SampleSparseDepth', points=40),
    dict(type='PackDepthInputs', channels=('rgb', 'sparse')),
]
val_pipeline = [
    dict(type='CutDepthWindow'),
    dict(type='SampleSparseDepth', points=40, fixed=True),
    dict(type='PackDepthInputs', channels=('rgb', 'sparse')),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    # This sampler, this wrapper and the loop of mmckpt make a resume exact inside an epoch too.
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        type='DeterministicDataset',
        dataset=dict(type='MotorcycleDepthDataset', columns=(64, 306), stride=16, pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='MotorcycleDepthDataset', columns=(306, 370), test_mode=True, pipeline=val_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='DepthMetric', min_depth=0.5, max_depth=10.0)
test_evaluator = val_evaluator
