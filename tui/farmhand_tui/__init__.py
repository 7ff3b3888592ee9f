"""The terminal side of farmhand: the screens, the plain tables and the command line."""
