"""The report: numbers (collect), drawings (figures) and one self-contained HTML file (page)."""

from raffect.report.collect import collect
from raffect.report.data import ReportData
from raffect.report.page import write_overview, write_report

__all__ = ["ReportData", "collect", "write_overview", "write_report"]
