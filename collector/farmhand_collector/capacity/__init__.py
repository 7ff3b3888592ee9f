"""The capacity core: which card, how much is missing, why. Arrays in, values out.

Nothing here reads a file, a clock or a configuration. Readings become frames (`frame`), a frame
and what is remembered become verdicts (`step`), and that is all: live judging, replay of a file
and evaluation differ only in where the readings come from.
"""
