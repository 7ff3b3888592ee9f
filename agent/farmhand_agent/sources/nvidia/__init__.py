"""NVIDIA cards, read through NVML. Only a reader child may import this."""
