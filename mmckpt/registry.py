"""Registries of mmckpt, children of MMEngine's under scope ``mmckpt``.

Config types such as ``type='mmckpt.CheckpointHook'`` resolve through this
module from any project and any default scope, without ``custom_imports``.
"""

from mmengine import registry as _root

HOOKS = _root.Registry(
    'hook', parent=_root.HOOKS, scope='mmckpt', locations=['mmckpt.hooks', 'mmckpt.demo'])
LOOPS = _root.Registry('loop', parent=_root.LOOPS, scope='mmckpt', locations=['mmckpt.loops'])
DATASETS = _root.Registry(
    'dataset', parent=_root.DATASETS, scope='mmckpt', locations=['mmckpt.data', 'mmckpt.demo'])
DATA_SAMPLERS = _root.Registry(
    'data sampler', parent=_root.DATA_SAMPLERS, scope='mmckpt', locations=['mmckpt.data', 'mmckpt.demo'])
TRANSFORMS = _root.Registry(
    'transform', parent=_root.TRANSFORMS, scope='mmckpt', locations=['mmckpt.demo'])
MODELS = _root.Registry('model', parent=_root.MODELS, scope='mmckpt', locations=['mmckpt.demo'])
METRICS = _root.Registry('metric', parent=_root.METRICS, scope='mmckpt', locations=['mmckpt.evaluation'])
OPTIM_WRAPPERS = _root.Registry(
    'optimizer wrapper', parent=_root.OPTIM_WRAPPERS, scope='mmckpt', locations=['mmckpt.optim_wrapper'])
STRATEGIES = _root.Registry('strategy', parent=_root.STRATEGIES, scope='mmckpt', locations=['mmckpt.strategy'])
VISUALIZERS = _root.Registry(
    'visualizer', parent=_root.VISUALIZERS, scope='mmckpt', locations=['mmckpt.demo'])

# Nothing of ours is in these; without them `default_scope = 'mmckpt'` makes MMEngine warn at each.
for _parent in (_root.RUNNERS, _root.RUNNER_CONSTRUCTORS, _root.LOG_PROCESSORS, _root.VISBACKENDS,
                _root.OPTIMIZERS, _root.OPTIM_WRAPPER_CONSTRUCTORS, _root.PARAM_SCHEDULERS, _root.MODEL_WRAPPERS,
                _root.WEIGHT_INITIALIZERS, _root.EVALUATOR, _root.TASK_UTILS, _root.INFERENCERS):
    # MMEngine wants a location for each; the import of a module that registers nothing costs nothing.
    _root.Registry(_parent.name, parent=_parent, scope='mmckpt', locations=['mmckpt.progress'])
