"""Mercer eigenvalues of kernels on the sphere, and what they say of smoothness."""
