"""Eigenvalues of Gram matrices of data, and bounds on them."""
