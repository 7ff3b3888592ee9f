"""Tiers of the evaluation: each answers a question of its own with numbers of its own."""
