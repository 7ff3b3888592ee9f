"""The kernel log: the ways to read it, and what the NVIDIA driver writes there."""
