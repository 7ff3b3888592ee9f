"""The farmhand collector: keeps readings, judges cards, answers the terminal."""
