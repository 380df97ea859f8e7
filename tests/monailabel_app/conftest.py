"""Importing monailabel warns of distutils, crypt and cgi, which is none of our doing: it is imported once, here, with warnings off."""

import importlib
import sys
import warnings

MODULES = ["monailabel.app", "monailabel.interfaces.app"]
if sys.version_info < (3, 13):
    MODULES.append("monailabel.client.client")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for module in MODULES:
        importlib.import_module(module)
