"""The machines that run programs; cpu.py is the tile engine."""
