//! vmint
