"""Properties have no deadline: a busy machine is slow, and that is no failure."""

from hypothesis import settings

settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")
