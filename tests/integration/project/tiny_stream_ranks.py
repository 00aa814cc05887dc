# A stream for two ranks, each of which reads its share.
_base_ = ['./tiny_two_ranks.py']
custom_imports = dict(imports=['tiny_project', 'tiny_streams'])
train_dataloader = dict(_delete_=True, type='StatefulDataLoader', batch_size=16, num_workers=2,
                        dataset=dict(type='TinyStream'))
