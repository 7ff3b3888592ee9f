"""What happens to cards: heard in several ways, told once each, remembered over restarts."""
