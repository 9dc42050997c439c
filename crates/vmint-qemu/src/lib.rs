//! vmint-qemu
