//! Proves a store for consensus against the contract that its framework states, with crashes.
//!
//! - [`suite_0_9`] and [`suite_0_10`] run openraft's own suites over a store on a real disk, plainly and with
//!   the store opened anew before every call. A store implements [`suite::Subject`].
//! - [`cases`] does what no suite does: it takes the power away after each acknowledgement and asks what is
//!   left, makes syncs fail, damages bytes, fills the disk. A store implements [`store::Store`] and
//!   [`cases::Subject`]; one of openraft 0.10 can also be made of it, with [`for_openraft`].
//! - [`recorded`] takes the power away from a store on real files, through a recording of crashcheck.
//! - [`outcome`] counts.
//!
//! The command of this package (feature `command`) runs all of it over seawall and over the other
//! [`subjects`].
#![deny(missing_docs)]

pub mod cases;
#[cfg(feature = "openraft_0_10")]
pub mod for_openraft;
mod history;
pub mod outcome;
pub mod place;
#[cfg(feature = "recorded")]
pub mod recorded;
pub mod store;
#[cfg(feature = "subjects")]
pub mod subjects;
#[cfg(any(feature = "openraft_0_9", feature = "openraft_0_10"))]
pub mod suite;
#[cfg(feature = "openraft_0_10")]
pub mod suite_0_10;
#[cfg(feature = "openraft_0_9")]
pub mod suite_0_9;
