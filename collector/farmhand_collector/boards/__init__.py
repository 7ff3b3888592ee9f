"""Boards: what the keeper knows of them that no driver does."""
