"""What the Slicer module and the browser workstation share: everything but the widgets.

`annotator.Annotator` is the one controller that both drive. Files `mrml_*` need Slicer's MRML, files `qt_*` Slicer's Qt; all others need
only the standard library, numpy and requests, and run on Python 3.9 and newer.
"""
