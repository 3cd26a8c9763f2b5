"""One HTML page of labelled conversations, complete in itself; stdlib only."""

from deesc_model.report.labelled import LabelledConversation
from deesc_model.report.page import render_report

__all__ = ["LabelledConversation", "render_report"]
