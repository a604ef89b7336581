//! What holds for every schema of every kind.
