//! Whether the profiles are true of the file systems of this kernel.
//!
//! I own nothing but the order of the parts: a [`litmus`] is a few operations; [`interpret`] does them on a
//! mounted file system; [`model`] asks the core which outcomes a crash may leave of them under a profile;
//! an [`outcome`] is a tree in words; [`campaign`] records the operations in block mode, again and again
//! with other things written back at other times, mounts the crash states, and shows that every outcome
//! seen is one that the profile predicts; [`command`] is what a user types.

pub mod campaign;
pub mod command;
pub mod interpret;
pub mod litmus;
pub mod model;
pub mod outcome;
