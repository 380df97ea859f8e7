"""Importing monailabel warns of distutils and the like, which is none of our doing: it is imported once, here, with warnings off."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monailabel.app
    import monailabel.interfaces.app
    import monailabel.interfaces.utils.app  # noqa: F401
