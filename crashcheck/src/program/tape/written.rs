//! The bytes of writes while a recording goes on.
//!
//! I own where they are: one after the other in large pieces of memory. To ask for memory for each write,
//! in a thread that is not the first, took a third of the time of recording it, and to meet each page for the
//! first time a tenth: whoever has time prepares the next piece.

use std::ops::Range;
use std::sync::Arc;

use crate::core::trace::{Op, Step};

/// How large a piece is, unless a write is larger.
const PIECE: usize = 4 << 20;

/// The bytes of writes.
#[derive(Debug, Default)]
pub(super) struct Written {
    pieces: Vec<Piece>,
    /// The next piece, whose pages are there.
    prepared: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// Which of them each step has written.
    steps: Vec<(usize, Range<usize>)>,
}

impl Written {
    /// Takes what a step has written.
    pub(super) fn take(&mut self, step: usize, bytes: &[u8]) {
        let has_room = |piece: &Piece| piece.bytes.capacity() - piece.bytes.len() >= bytes.len();
        if !self.pieces.last().is_some_and(has_room) {
            let prepared = self.prepared.take().filter(|piece| piece.capacity() >= bytes.len());
            let bytes = prepared.unwrap_or_else(|| Vec::with_capacity(PIECE.max(bytes.len())));
            self.pieces.push(Piece { bytes, steps: Vec::new() });
        }
        let piece = self.pieces.last_mut().expect("there is one with room");
        let from = piece.bytes.len();
        piece.bytes.extend_from_slice(bytes);
        piece.steps.push((step, from..piece.bytes.len()));
    }

    /// Whether the next piece is needed soon, and nobody has prepared it.
    pub(super) fn wants_piece(&self) -> bool {
        let is_half_full = |piece: &Piece| piece.bytes.len() > piece.bytes.capacity() / 2;
        self.prepared.is_none() && self.pieces.last().is_some_and(is_half_full)
    }

    /// Takes a prepared piece.
    pub(super) fn take_piece(&mut self, piece: Vec<u8>) {
        self.prepared = Some(piece);
    }

    /// Gives each step what it has written.
    pub(super) fn give_to(&mut self, steps: &mut [Step]) {
        for piece in self.pieces.drain(..) {
            for (step, range) in piece.steps {
                if let Op::Write { data, .. } = &mut steps[step].op {
                    *data = Arc::from(&piece.bytes[range]);
                }
            }
        }
    }
}

/// An empty piece whose pages are there.
pub(super) fn piece() -> Vec<u8> {
    let mut piece = vec![0; PIECE];
    piece.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    piece.clear();
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trace::Ino;

    #[test]
    fn each_step_gets_its_own_bytes_across_pieces() {
        let sizes = [1, PIECE - 2, 2, PIECE + 1, 0, 3];
        let bytes = |i: usize| vec![u8::try_from(i).unwrap(); sizes[i]];
        let mut written = Written::default();
        let write = |_| Step::from(Op::Write { ino: Ino(0), offset: 0, data: Arc::default() });
        let mut steps: Vec<Step> = (0..sizes.len()).map(write).collect();
        for i in 0..sizes.len() {
            if written.wants_piece() {
                written.take_piece(piece());
            }
            written.take(i, &bytes(i));
        }
        written.give_to(&mut steps);
        for (i, step) in steps.iter().enumerate() {
            assert!(matches!(&step.op, Op::Write { data, .. } if **data == bytes(i)[..]));
        }
    }
}
