"""Handwritten digits: an int8 convolutional network on scikit-learn's 8 x 8 images."""
