//! The parts that a measurement of one engine is made of.
//!
//! I own what every engine is given alike: the workloads, the callers that drive them, the process
//! that serves one measurement and the protocol that it is asked by. The engines of other projects
//! live in a package of their own (`bench/peers`) and use these parts. I do not know them, nor how
//! results are compared (see the command).

pub mod drive;
pub mod grouped;
pub mod raw;
pub mod reopen;
pub mod sample;
pub mod serve;
pub mod store;
pub mod subject;
pub mod workload;
