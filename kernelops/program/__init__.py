"""Formulas become machine programs: place.py says where each node lives, tile.py writes the instructions."""
