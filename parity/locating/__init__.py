"""Where the port departs from its reference: layers, source lines, updates, draws, and why."""
