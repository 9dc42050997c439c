//! `strategy.matrix`: which combinations it makes.
