//! Shows that no crash leaves a store silently partial.
//!
//! [`core`] explores the crash states of a recorded trace and knows no store; a store takes part by
//! implementing [`core::subject::Subject`], or in a test of its own through [`disk`].
#![deny(missing_docs)]

pub mod block;
pub mod calibrate;
pub mod cli;
pub mod core;
pub mod disk;
pub mod engine;
pub mod escape;
pub mod program;
pub mod subjects;
