"""Detectors and statistics over training scalars: no torch, no MMEngine."""

from mmckpt.monitor.advice import TrainingContext
from mmckpt.monitor.finding import Detector, Finding
from mmckpt.monitor.non_finite import NonFiniteDetector
from mmckpt.monitor.performance_drop import PerformanceDropDetector
from mmckpt.monitor.spike import SpikeDetector
from mmckpt.monitor.statistics import MetricStatistics, RunningStatistics
from mmckpt.monitor.training_monitor import Noticed, TrainingMonitor

__all__ = [
    'Detector', 'Finding', 'MetricStatistics', 'NonFiniteDetector', 'Noticed', 'PerformanceDropDetector',
    'RunningStatistics', 'SpikeDetector', 'TrainingContext', 'TrainingMonitor',
]
