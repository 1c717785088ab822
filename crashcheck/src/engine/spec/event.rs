//! One event of a trace, and its text in a module.
//!
//! I own the vocabulary, which is that of `engine/spec/SeawallTrace.tla`. Files are numbered from 1, frames
//! from 0; a position is a number of frames. I do not know where an event comes from.

use std::fmt;

/// What was done to the disk, or what the host was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file became a segment.
    Name {
        /// The file.
        file: usize,
        /// The segment.
        segment: u64,
    },
    /// A segment became a spare.
    Spare(usize),
    /// A file was removed.
    Gone(usize),
    /// A spare was made.
    Made(usize),
    /// The directory was synced.
    Dir,
    /// A file was synced.
    Sync(usize),
    /// Header and checkpoint were written.
    Head {
        /// The file.
        file: usize,
        /// The segment.
        segment: u64,
        /// Its predecessor's cut.
        cut: usize,
        /// What a recovery wrote again here.
        recovered_to: usize,
    },
    /// A frame was written.
    Frame {
        /// The file.
        file: usize,
        /// The segment.
        segment: u64,
        /// Its position.
        position: usize,
        /// The mark that it carries.
        mark: usize,
        /// Which frame.
        frame: usize,
        /// Whether a recovery wrote it again.
        again: bool,
    },
    /// A footer's tables were written.
    Tables(usize),
    /// A footer's trailer was written.
    Foot {
        /// The file.
        file: usize,
        /// The segment.
        segment: u64,
        /// Its last position.
        position: usize,
        /// What sealed it: `rot`, `close` or `rec`.
        by: &'static str,
        /// The successor.
        next: u64,
    },
    /// A slot of the high-water file was written.
    High {
        /// The segment that it names.
        segment: u64,
        /// The position that it names.
        position: usize,
    },
    /// The high-water file was synced.
    HighSync,
    /// The host was told that everything up to a position is durable.
    Ack(usize),
    /// A handle ended.
    Die,
    /// An open returned with so many frames.
    Opened(usize),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { file, segment } => write!(f, "<<\"name\", {file}, {segment}>>"),
            Self::Spare(file) => write!(f, "<<\"spare\", {file}>>"),
            Self::Gone(file) => write!(f, "<<\"gone\", {file}>>"),
            Self::Made(file) => write!(f, "<<\"mk\", {file}>>"),
            Self::Dir => f.write_str("<<\"dir\">>"),
            Self::Sync(file) => write!(f, "<<\"sync\", {file}>>"),
            Self::Head { file, segment, cut, recovered_to } => {
                write!(f, "<<\"head\", {file}, {segment}, {cut}, {recovered_to}>>")
            }
            Self::Frame { file, segment, position, mark, frame, again } => {
                let kind = if *again { "r" } else { "b" };
                write!(f, "<<\"frame\", {file}, {segment}, {position}, {mark}, \"f{frame}\", \"{kind}\">>")
            }
            Self::Tables(file) => write!(f, "<<\"tables\", {file}>>"),
            Self::Foot { file, segment, position, by, next } => {
                write!(f, "<<\"foot\", {file}, {segment}, {position}, \"{by}\", {next}>>")
            }
            Self::High { segment, position } => write!(f, "<<\"hw\", {segment}, {position}>>"),
            Self::HighSync => f.write_str("<<\"hws\">>"),
            Self::Ack(position) => write!(f, "<<\"ack\", {position}>>"),
            Self::Die => f.write_str("<<\"die\">>"),
            Self::Opened(frames) => write!(f, "<<\"opened\", {frames}>>"),
        }
    }
}
