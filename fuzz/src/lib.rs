//! What the fuzz targets share: a directory as one input, the meaning of an operation's bytes, and mutations
//! that get past checksums.
//!
//! I own the two encodings of fuzz inputs and what keeps them worth reading. I judge operations by a model in memory, and decoders only
//! by whether they end.

#[path = "../../crashcheck/src/engine/reader/mend.rs"]
#[expect(dead_code, reason = "the checker also gives manifests other names")]
mod mend;
pub mod mutate;
pub mod operations;
pub mod pack;
