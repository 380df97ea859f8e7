# Packages are made by the real Slicer only.
