"""Importing monailabel warns of distutils and the like, which is none of our doing: it is imported once, here, with warnings off."""

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    if sys.version_info < (3, 13):
        pass
