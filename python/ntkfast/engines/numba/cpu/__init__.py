"""The loops of a task over pairs, as in the C++ headers of these names."""
