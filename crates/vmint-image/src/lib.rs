//! vmint-image
