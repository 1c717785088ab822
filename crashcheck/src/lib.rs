//! Shows that no crash leaves a store silently partial.
//!
//! [`core`] explores the crash states of a recorded trace and knows no store; a store takes part by
//! implementing [`core::subject::Subject`].
#![deny(missing_docs)]

pub mod cli;
pub mod core;
pub mod engine;
