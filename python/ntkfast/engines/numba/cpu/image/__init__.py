"""Kernels of convolutional networks: pairs of pixels of pairs of images."""
