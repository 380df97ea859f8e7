"""The radiologist's work in a browser, on Slicer's own core: the same controller, tools and keys as the Slicer module.

One process serves one person. Everything but network calls and the encoding of pictures runs on the event loop's thread, which is
Slicer's and the controller's main thread.
"""
