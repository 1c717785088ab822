//! A [`seawall`] store as the storage of raft-rs (`raft` 0.7), with either codec.
//!
//! A [`Group`] is the [`raft::Storage`] of one Raft group; a [`Writer`] takes what the readies of any number
//! of groups say and makes it durable with one sync:
//!
//! ```ignore
//! let mut writer = Writer::new(&engine);
//! let mut ready = raw.ready();
//! send(ready.take_messages());
//! writer.ready(raw.store(), &ready)?;          // and those of other groups
//! writer.submit()?.wait()?;                    // one sync; none if no ready must be synced
//! send(ready.take_persisted_messages());       // only now
//! let light = raw.advance(ready);
//! ```
//!
//! With [`Written::on_durable`] in the place of `wait`, and `advance_append_async`, the loop goes on while
//! the disk works; `on_persist_ready` follows when the callback came.
//!
//! | what raft asks | how it is kept |
//! | --- | --- |
//! | hard state, entries and snapshot are durable before persisted messages go out | `wait`, or the callback |
//! | a ready that need not be synced is not waited for | [`Written::must_sync`] |
//! | entries replace those at and above their index | a truncation in the same batch |
//! | the term and the vote are never older than the snapshot | they are earlier in the stream |
//! | configuration and snapshot change together | the configuration is part of the snapshot |
//! | a damaged group takes part in no election | `initial_state` is an error until it is repaired |
//!
//! After a restart raft begins at the snapshot: give [`Group::applied`] as `Config::applied`, and it hands
//! out the committed entries that follow, configuration changes among them, once more.
#![expect(
    clippy::field_reassign_with_default,
    reason = "the codecs generate different structs, which are made alike only this way"
)]
#![deny(missing_docs)]

mod convert;
mod group;
mod writer;

pub use group::Group;
pub use writer::{Writer, Written};
