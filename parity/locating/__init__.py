"""Where a port differs from its reference: stations that each look at one kind of evidence, and their join.

`locate` (the entry point) · `search` (one case) · `differing` (what differs at all) · `looks` (one
computation: frontiers, culprits, causes) · `divergence` (the result as data).
"""
