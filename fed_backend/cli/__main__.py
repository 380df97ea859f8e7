"""`python -m fed_backend.cli`: the same as `fedsca`, for an environment whose scripts are not on PATH."""

from fed_backend.cli import main

main()
