"""One HTML page of conversations as the companion saw them, complete in itself; stdlib only."""

from deesc_model.report.followed import FollowedConversation, FollowedTurn, follow
from deesc_model.report.page import render_report

__all__ = ["FollowedConversation", "FollowedTurn", "follow", "render_report"]
