//! `container:` and `services:` as types: what stands in a file, read as the job will read it.
//!
//! [`job`] and [`service`] read the two, [`settings`] what they have in common: [`image`], [`options`], [`publish`], [`variables`] and
//! [`volume`]. [`words`] cuts a line as a shell would. Which calls of a container engine that makes is `vmint-workflow`'s.

pub mod image;
pub mod job;
pub mod options;
pub mod publish;
pub mod service;
pub mod settings;
pub mod variables;
pub mod volume;
pub mod words;
