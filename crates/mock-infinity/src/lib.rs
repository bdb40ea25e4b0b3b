//! mock-infinity
