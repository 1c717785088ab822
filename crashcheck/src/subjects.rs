//! Known libraries as subjects: what crashcheck must find, and what it must let pass.
//!
//! I own nothing but the order of the parts. A manifest lists the subjects; [`provide`] gets the programs
//! and packages that one needs; [`reach`] lets a user without rights get at them; [`run`] records and explores it
//! through this program's own commands, as a user would; [`table`] holds the verdicts against what is expected. The workloads and checkers are files
//! in `crashcheck/subjects`; none is known here by name.

pub mod provide;
pub mod reach;
pub mod run;
pub mod table;
