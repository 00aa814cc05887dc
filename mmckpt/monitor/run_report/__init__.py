"""The report of training runs as one HTML file, made from what lies in their work directories."""

from mmckpt.monitor.run_report.page import to_html
from mmckpt.monitor.run_report.reading import RunReader
from mmckpt.monitor.run_report.run import Run

__all__ = ['Run', 'RunReader', 'to_html']
