# The exact run for two ranks: BN statistics differ between them, since nothing synchronises them.
_base_ = ['./tiny_exact.py']
