//! What the fuzz targets share: a directory as one input, and the meaning of an operation's bytes.
//!
//! I own the two encodings of fuzz inputs. I judge operations by a model in memory, and decoders only
//! by whether they end.

pub mod operations;
pub mod pack;
