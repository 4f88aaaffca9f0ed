"""What a sweep found and how it stands, read from its journal alone: one HTML file, tables, and a live display."""

from raysweep.report.html import write_report
from raysweep.report.progress import Progress
from raysweep.report.terminal import print_summary, status
from raysweep.report.view import SweepView
from raysweep.report.why import explain

__all__ = ["Progress", "SweepView", "explain", "print_summary", "status", "write_report"]
