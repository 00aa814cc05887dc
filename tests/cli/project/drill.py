# A training that resumes to the bit; the tests of the resume drill plant faults into it (--cfg-options).
_base_ = '../../integration/project/tiny_epochs.py'
custom_imports = dict(imports=['tiny_project', 'drill_faults'])
param_scheduler = [dict(type='LinearLR', start_factor=.1, by_epoch=False, end=8)]
