"""The live benchmark's parts; `live.py` is its command."""
