//! The checker's core: a recorded trace, its crash states, and what a subject says of each.
//!
//! I own nothing but the order of the parts: [`trace`] is what was done to the disk, [`sound`] says whether one is believed, [`micro`] splits
//! it into what a crash keeps or loses as a whole, [`profile`] says which of those keep order, [`doubt`]
//! walks a trace and says what is durable and what is in doubt, [`state`] builds and hashes one crash
//! state, [`choices`] lists which to try, [`explore`] tries them, [`replay`] tries one again by its name,
//! [`minimise`] makes a finding small, [`method`] says what weaker methods would have tried, [`pool`] does all that on every core, [`counts`] adds it up.
//!
//! Nothing here knows a store: a [`subject`] recovers and judges.

pub mod body;
pub mod choices;
pub mod counts;
pub mod doubt;
pub mod explore;
pub mod image;
pub mod method;
pub mod micro;
pub mod minimise;
pub mod pool;
pub mod profile;
pub mod replay;
pub mod sound;
pub mod state;
pub mod subject;
pub mod trace;
