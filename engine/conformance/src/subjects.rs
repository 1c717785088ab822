//! The stores that the command runs over.

#[cfg(feature = "others")]
pub mod memory;
pub mod of_openraft;
pub mod of_raft;
#[cfg(feature = "others")]
pub mod raft_log;
#[cfg(feature = "others")]
pub mod redb;
pub mod suites;
