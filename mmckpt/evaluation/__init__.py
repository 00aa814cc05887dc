"""Metrics for MMEngine's evaluator."""

from mmckpt.evaluation.keypoint_ap import KeypointAP
from mmckpt.evaluation.pck import PCK

__all__ = ['PCK', 'KeypointAP']
