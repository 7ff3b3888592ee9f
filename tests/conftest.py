"""Property tests draw the same examples in every run; `make fuzz` draws new ones, and more.

What fresh examples find is a finding about the code, not about the change that is being checked.
"""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=2_000, deadline=None)
settings.load_profile("fixed")
