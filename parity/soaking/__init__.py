"""Very many generated examples of pairs that should agree: does any of them raise a false alarm?"""
