//! vmint-store
