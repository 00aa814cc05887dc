# MMPretrain's own CIFAR config on folders of pictures.
_base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py', 'mmckpt::_base_/safe.py']

model = dict(head=dict(num_classes=2))
data_preprocessor = dict(num_classes=2)
folder = dict(_delete_=True, type='CustomDataset', data_root='data/folders/train')
load = dict(type='LoadImageFromFile')
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=[
    load, dict(type='RandomCrop', crop_size=32, padding=4), dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')], **folder))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='data/folders/val', pipeline=[load, dict(type='PackInputs')]))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=4)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=4, save_best='accuracy/top1', rule='greater'))
