# The stock training with models that have a fault each; quick-check must find it (model.type=...).
_base_ = 'stock.py'
custom_imports = dict(imports=['tiny_project', 'broken_models'])
train_cfg = dict(max_epochs=5)
