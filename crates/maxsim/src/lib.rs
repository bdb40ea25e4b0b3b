//! maxsim
