"""What the C++ headers of these names have: the value of a pair, on rows of pairs."""
