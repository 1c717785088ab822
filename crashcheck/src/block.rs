//! Block mode: what a crash can leave of a real file system.
//!
//! I own nothing but the order of the parts: [`room`] is the private place where everything is mounted,
//! [`guests`] the processes in it, [`tools`] the programs of others, [`fs`] the file systems, [`server`] the device that
//! records, [`record`] one recorded run, [`log`] what was recorded (and the format of dm-log-writes), [`disk`] the
//! bytes of a device, [`states`] its crash states, [`present`] one of them mounted, [`hands`] the process that does that,
//! [`check`] what is asked of it, [`probe`] a look at all of it, [`campaign`] all of them, [`command`] what a user types.
//!
//! Nothing here knows what order a file system promises (see [`crate::core::profile`]): the states are
//! those that a disk with a volatile write cache can leave, and the real file system makes of them what
//! it makes of them.

pub mod campaign;
pub mod check;
pub mod command;
pub mod disk;
pub mod fs;
pub mod guests;
pub mod hands;
pub mod log;
pub mod present;
pub mod probe;
pub mod record;
pub mod room;
pub mod server;
pub mod states;
pub mod tools;
