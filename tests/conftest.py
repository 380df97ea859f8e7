"""What holds for every test."""

from hypothesis import settings

# Times of single examples say nothing on a machine that does other work as well; pytest's own timeout ends what hangs.
settings.register_profile("fedsca", deadline=None)
settings.load_profile("fedsca")
