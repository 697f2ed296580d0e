"""Checks of what users pass in, collections of inputs, and arrays of decimals."""
