"""What the screens are made of, one widget or family a file."""
