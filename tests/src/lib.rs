//! Black-box tests on real machines.
