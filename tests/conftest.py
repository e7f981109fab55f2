"""What all tests share."""

from hypothesis import settings

# Property tests run beside real processes on two cores: how long one example takes says nothing.
settings.register_profile("mcm", deadline=None)
settings.load_profile("mcm")
