"""`fedsca demo`: the whole loop with real processes on one machine, seen from outside through the interfaces a hospital has."""
