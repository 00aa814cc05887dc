"""Metrics for MMEngine's evaluator."""

from mmckpt.evaluation.depth import DepthMetric
from mmckpt.evaluation.keypoint_ap import KeypointAP
from mmckpt.evaluation.pck import PCK
from mmckpt.evaluation.ranking import RankingMetric

__all__ = ['PCK', 'DepthMetric', 'KeypointAP', 'RankingMetric']
