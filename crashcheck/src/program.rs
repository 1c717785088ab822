//! Any program's crash states: recorded while it runs, presented to a checker, explained.
//!
//! I own nothing but the order of the parts. A recorder ([`fuse`] is one, [`calls`] another, and [`tracer`] stops a program) writes what a program does to a [`tape`], with the [`sites`] where it does it, which becomes a [`recording`], which is a
//! [`file`](mod@file). [`scene`] makes the crash states of a recording, [`present`] lays one out as a real
//! directory, [`checker`] asks the user's command about it, or holds the program's own
//! words against what is [`expect`]ed, [`search`] decides which are tried, and
//! [`classes`] makes few explained findings of many failures, with the [`symbols`] of call sites, which a [`page`] shows and a
//! [`ratchet`] remembers. [`sandbox`] keeps all
//! that in namespaces of its own, so that nothing is left when a process dies; [`place`] says where states are shown,
//! [`own`] which places a checker shares with nobody, and [`rights`] what others' programs may do.

pub mod calls;
pub mod checker;
pub mod classes;
pub mod expect;
pub mod explore;
pub mod faults;
pub mod file;
pub mod fuse;
pub mod mutate;
pub mod names;
pub mod nested;
pub mod own;
pub mod page;
pub mod place;
pub mod present;
pub mod ratchet;
pub mod record;
pub mod recording;
pub mod report;
pub mod rights;
pub mod sandbox;
pub mod scene;
pub mod search;
pub mod sites;
pub mod stream;
pub mod symbols;
pub mod tape;
pub mod tracer;
pub mod worker;
