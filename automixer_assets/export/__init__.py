"""Exports of a mixture that real trainers read, one module per format.

What belongs here: copying a mixture's texts or tokens into a trainer's files, restating its weights in the unit that
the trainer counts in, and saying what the trainer will really do. What does not: choosing documents or weights.
"""

from automixer_assets.export.exporting import ExportReport, export_mixture, n_documents
from automixer_assets.export.folder import REPORT
from automixer_assets.export.handover import SHEET
from automixer_assets.export.registry import FORMATS, load_format

__all__ = ["FORMATS", "REPORT", "SHEET", "ExportReport", "export_mixture", "load_format", "n_documents"]
