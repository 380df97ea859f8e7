"""Tests of what radiologists hold in their hands."""
