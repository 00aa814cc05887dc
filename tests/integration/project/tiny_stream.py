# The exact run on data without an index: torchdata's loader keeps the place.
_base_ = ['./tiny_exact.py']
custom_imports = dict(imports=['tiny_project', 'tiny_streams'])
train_dataloader = dict(_delete_=True, type='StatefulDataLoader', batch_size=32, num_workers=0,
                        dataset=dict(type='TinyStream'))
