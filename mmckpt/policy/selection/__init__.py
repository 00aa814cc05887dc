"""Which of two validations is better, by any metric, combination of metrics or smoothed score."""

from mmckpt.policy.selection.expression import Expression
from mmckpt.policy.selection.filename import FileTemplate, safe_characters, shortened, told_apart
from mmckpt.policy.selection.rules import DEFAULT_GREATER, DEFAULT_LESS, Rule, infer_rule
from mmckpt.policy.selection.scorer import Scorer
from mmckpt.policy.selection.scores import as_score, is_better, scalar_metrics
from mmckpt.policy.selection.smoothing import ExponentialMean, RunningMedian, make_smoothing
from mmckpt.policy.selection.spec import Selection, asks_for_a_score, parse_selection
from mmckpt.policy.selection.top import TopScores

__all__ = [
    'DEFAULT_GREATER', 'DEFAULT_LESS', 'ExponentialMean', 'Expression', 'FileTemplate', 'Rule', 'RunningMedian',
    'Scorer', 'Selection', 'TopScores', 'as_score', 'asks_for_a_score', 'infer_rule', 'is_better',
    'make_smoothing', 'parse_selection', 'safe_characters', 'scalar_metrics', 'shortened', 'told_apart',
]
