"""Public data of real machines as readings, with what is known of their cards."""
