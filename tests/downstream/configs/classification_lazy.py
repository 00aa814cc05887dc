# A pure-Python config of MMPretrain: types are classes, bases come by read_base.
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, ValLoop
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs, RandomCrop, RandomFlip
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import CrossEntropyLoss, GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR
from torch.optim import SGD

with read_base():
    from .lazy_runtime import *  # noqa: F403

data_preprocessor = dict(mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3], num_classes=2)
model = dict(
    type=ImageClassifier, backbone=dict(type=ResNet_CIFAR, depth=18, num_stages=4, out_indices=(3, )),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=2, in_channels=512, loss=dict(type=CrossEntropyLoss)))
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CustomDataset, data_root='data/folders/train', pipeline=[
        dict(type=LoadImageFromFile), dict(type=RandomCrop, crop_size=32, padding=4),
        dict(type=RandomFlip, prob=0.5), dict(type=PackInputs)]))
val_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CustomDataset, data_root='data/folders/val', pipeline=[
        dict(type=LoadImageFromFile), dict(type=PackInputs)]))
val_evaluator = dict(type=Accuracy, topk=(1, ))
val_cfg = dict(type=ValLoop)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=4)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05, momentum=0.9))
param_scheduler = dict(type=CosineAnnealingLR, T_max=4)
default_hooks.update(checkpoint=dict(  # noqa: F405
    type=default_hooks['checkpoint']['type'], interval=1, save_best='accuracy/top1', rule='greater'))  # noqa: F405
