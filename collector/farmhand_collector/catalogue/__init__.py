"""Facts as data: what cards are made to be, and what findings mean."""
