"""Renderings of a verdict: JSON for tools, text for the terminal."""
