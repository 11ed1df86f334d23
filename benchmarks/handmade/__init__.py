"""The article's stack as one would write it by hand in an afternoon, to be measured beside Recado."""
