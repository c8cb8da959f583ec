"""Mutants: deliberate porting bugs in a port's source, and whether the stages notice them."""
