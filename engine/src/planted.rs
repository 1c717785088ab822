//! The bugs that the checker must find, one switch each.
//!
//! I own the list. A switch is asked for through [`Vfs::planted`](crate::vfs::Vfs::planted), which is
//! a constant `false` for every file system but the checker's wrapper; a test shows that no shipped
//! program holds one. I do not know how a bug is found (see the checker).

/// Declares the enum, the list of all and the names from one table.
macro_rules! bugs {
    ($($name:ident: $text:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $text] $name,)*
        }

        impl Bug {
            /// All of them, in the order of the model's table.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];

            /// The bug in one line.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }

            /// The bug's name, as in the table.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Bug::$name => stringify!($name),)* }
            }
        }
    };
}

bugs! {
    AckWithoutSync: "no sync before the acknowledgement",
    AckBeforeSync: "acknowledged before the sync returns",
    SyncWrongFile: "after a rotation the previous segment is synced",
    AckLateWriter: "a sync acknowledges what was written after it began",
    SyncErrorIgnored: "a sync error is ignored",
    SyncRetried: "a failed sync is retried and its success believed",
    NotPoisoned: "the handle goes on after a failed sync",
    ShortWriteIgnored: "a short write is taken for a whole one",
    FirstPieceOnly: "of a frame in several pieces only the first is written",
    OffsetLostAfterInterrupt: "a write goes on at another offset after EINTR",
    CloseErrorLost: "an error of the last sync is lost at close",
    SharedDescription: "concurrent syncs share one open file description",
    AckOutOfOrder: "a batch is acknowledged before an earlier one",
    PayloadUnchecked: "payloads have no checksum",
    PaddingAsserted: "bad padding is taken for a programming error",
    OneVoteCopy: "a vote is written once in its batch",
    OneCarriedCopy: "the state carried forward is written once",
    ReadUnchecked: "an entry is returned without checking it",
    SuffixKept: "an install keeps a suffix of another term",
    SegmentIdReused: "a segment number is used again",
    HeaderNotSynced: "a new segment's start is not synced before its first batch",
    RotationNameNotSynced: "a new segment is written before its name is durable",
    SealedBeforeData: "a segment is sealed before its data is synced",
    TrailerWithTables: "a trailer is written before the tables that it vouches for are durable",
    OpenedWhenWritten: "the next segment is opened when it is written, and not before a batch is taken for it",
    HolesBelieved: "a prepared segment with holes is taken for whole",
    RecycledBeforeDurable: "a segment is recycled before what emptied it is durable",
    LockIgnored: "the lock is not looked at",
    ReadErrorIsEnd: "a read error is taken for the end of the log",
    HolesUnseen: "a missing segment in the middle is taken for a shorter log",
    MissingLastUnseen: "a missing last segment is not noticed",
    RotTakenForTorn: "damage below a mark is cut like a torn tail",
    TornCalledCorrupt: "a torn tail is called corrupt",
    CacheExposed: "recovery exposes what may be only in the cache",
    CutNotSynced: "recovery does not sync what it wrote",
    RecycledBeforeCarry: "old segments are recycled before the carried state is durable",
    CompactedUncovered: "a compaction goes beyond the durable snapshot",
    SnapshotDataNotSynced: "a snapshot is published before its chunks are synced",
    SnapshotDirNotSynced: "a snapshot is published before the names of its files are durable",
    ManifestNotSynced: "a snapshot is published before its manifest is synced",
    ShortChunkAccepted: "a chunk that is too short is accepted, and its content not checked",
    ForeignChunkAccepted: "a chunk of another store or another content is accepted",
    StaleChunkReused: "a left-over chunk that no durable pointer covers is trusted",
    ChunkHashUnchecked: "a chunk's content is not checked",
    MarkIsWritten: "the mark is what was written, not what was acknowledged",
    FramesUnchecked: "frames and entries have no checksum",
    WriteErrorIgnored: "a failed write is taken for a whole one",
    WrittenTakenBack: "what a failed write may have left is called not durable",
    DescriptionTooLate: "a sync uses a description that was opened after the writes",
    TruncateAckedEarly: "a truncation is acknowledged before it is durable",
    VoteAckedEarly: "a vote is acknowledged before it is durable",
    VoteGoesBack: "an older vote replaces a newer one",
    SpareNotSettled: "a prepared segment's length is believed, though it may be in the cache only",
    ZerosNotSynced: "the zeros of a prepared segment are not synced before its name",
    CreateNamesNotSynced: "a creation returns before the identity's name is durable",
    HighWaterNotRaised: "the high-water file is not raised",
    HighWaterTooEarly: "the high-water file names a segment before it is durable",
    CarryForgetsVote: "the state carried forward has no votes",
    CarryForgetsCommit: "the state carried forward has no commit index",
    CarryForgetsSnapshot: "the state carried forward has no snapshot pointer",
    ReserveSpent: "entries may take the reserve of the control records",
    ReserveNotBehindEntries: "entries fill a segment without the whole reserve behind them",
    ZerosEndLog: "a unit of zeros is taken for the end of the log",
    DirectoryUnchecked: "a frame's names have no checksum",
    FrameHeaderUnchecked: "a frame's header has no checksum",
    HeaderUnchecked: "a segment's header has no checksum",
    RunsUnchecked: "a footer's runs have no checksum",
    StateUnchecked: "a footer's state has no checksum",
    IdentityUnchecked: "the identity has no checksum",
    HighWaterUnchecked: "the high-water file has no checksum",
    TwinIgnored: "the second copy of a frame is not looked at",
    InterruptedStartIsDamage: "a segment whose start a crash cut short is called damaged",
    DamagedStartForgiven: "a segment that was exposed is taken for one whose start was cut short",
    RecoveredToIgnored: "the output of an interrupted recovery is taken for whole",
    ResealedBeforeCarry: "a segment is cut before what was above the cut is durable elsewhere",
    SyncedNotRewritten: "records above the mark are synced where they are, and not written again",
    MaybeAckedUnsaid: "the report does not say what may have been acknowledged",
    EpochNotRaised: "an open does not raise the epoch",
    HollowAboveMark: "a torn batch above the mark is kept for its names",
    RotForgotten: "a sealed segment does not say that it has entries that do not hold",
    OldSnapshotDroppedEarly: "an old snapshot is dropped before its successor's pointer is durable",
    DamageEndsRead: "a damaged entry ends a read as if nothing followed",
    EvidenceNotSynced: "evidence is not synced before the act that it names",
    EvidenceAfterAct: "a torn tail is cut before the evidence of it is written",
    IdleMarkTooEarly: "what is under way is marked as durable",
    RepairUnchecked: "a repair takes any bytes of the right length",
    BlockedVotes: "a group that lacks something takes votes",
    ClosedAtFullLength: "a close leaves its segment at full length, so that each restart takes a segment",
    StateBoundOfFrame: "each vote of a frame counts the payload of all of them against the segment",
    StaleDescription: "a repaired segment is read through the description of the damaged one",
    NoLastIndex: "a snapshot at the last of all numbers is let through",
    StaleFramePasses: "no salt, no place, no position and no chain tell an old frame from a new one",
}
