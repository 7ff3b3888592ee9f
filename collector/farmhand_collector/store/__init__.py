"""Where readings live: written once, read by arrival or by time, forgotten by the day."""
