"""Detectors and statistics over training scalars: no torch, no MMEngine."""

from mmckpt.monitor.advice import TrainingContext
from mmckpt.monitor.divergence import DivergenceDetector
from mmckpt.monitor.finding import Detector, Finding
from mmckpt.monitor.gpu_idle import GpuIdleDetector
from mmckpt.monitor.gradients import GradientDetector
from mmckpt.monitor.idle_parameters import IdleParametersDetector
from mmckpt.monitor.iteration_time import SlowDataDetector, SlowingDetector
from mmckpt.monitor.learning_rate import LearningRateDetector
from mmckpt.monitor.loss_terms import LossTermsDetector
from mmckpt.monitor.memory import MemoryGrowthDetector
from mmckpt.monitor.non_finite import NonFiniteDetector
from mmckpt.monitor.overfitting import OverfittingDetector
from mmckpt.monitor.performance_drop import PerformanceDropDetector
from mmckpt.monitor.plateau import PlateauDetector
from mmckpt.monitor.quantiles import QuantileSketch
from mmckpt.monitor.spike import SpikeDetector
from mmckpt.monitor.statistics import MetricStatistics, RunningStatistics
from mmckpt.monitor.training_monitor import Noticed, TrainingMonitor
from mmckpt.monitor.zero_metric import ZeroMetricDetector

__all__ = [
    'Detector', 'DivergenceDetector', 'Finding', 'GpuIdleDetector', 'GradientDetector', 'IdleParametersDetector',
    'LearningRateDetector', 'LossTermsDetector', 'MemoryGrowthDetector', 'MetricStatistics', 'NonFiniteDetector',
    'Noticed', 'OverfittingDetector', 'PerformanceDropDetector', 'PlateauDetector', 'QuantileSketch',
    'RunningStatistics', 'SlowDataDetector', 'SlowingDetector', 'SpikeDetector', 'TrainingContext',
    'TrainingMonitor', 'ZeroMetricDetector',
]
