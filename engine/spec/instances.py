"""The finite instances of the modules, and the planted design bugs, as tables.

I own which constants make a module small enough, and which invariants a bug must break. I call nothing.
"""

import dataclasses

LOG_INVARIANTS = "P5 P6 P2 P3 P10 P16 P12 P14Mark P15 P14 P5Rot P15Rot P4 P1 P11"

SNAPSHOT_INVARIANTS = "P6 P7 P8 P9 P11 P12 P1"


@dataclasses.dataclass(frozen=True)
class Instance:
    """A module with the constants that make it finite."""

    name: str
    module: str
    invariants: str
    constants: dict
    specification: str = "Spec"

    def config(self):
        """The text of TLC's configuration."""
        lines = [f"SPECIFICATION {self.specification}", "CONSTANTS"]
        for name, value in self.constants.items():
            defined = value[0].isalpha() and value not in ("TRUE", "FALSE")
            lines.append(f"  {name} {'<-' if defined else '='} {value}")
        return "\n".join([*lines, "INVARIANTS", f"  {self.invariants}", ""])


@dataclasses.dataclass(frozen=True)
class Bug:
    """A planted bug: the law that it breaks, the invariants that may catch it, and where it shows."""

    name: str
    law: str
    text: str
    caught_by: str
    instance: Instance


def log(name, menu, length, **changed):
    """An instance of the log over the streams of a menu."""
    constants = {
        "Files": "{1, 2, 3, 4}",
        "Slots": "2",
        "MaxFlights": "2",
        "MaxPos": str(length),
        "Menu": menu,
        "MaxCrashes": "1",
        "MaxErrors": "0",
        "MaxRots": "0",
        "Live": "LiveInFold",
        "AnyTime": "FALSE",
        "Bug": '"none"',
    }
    return Instance(name, "LogInstances", LOG_INVARIANTS, {**constants, **changed})


def snapshot(name, ops, records, snapshots, **changed):
    """An instance of the snapshots."""
    constants = {
        "MaxRecs": str(records),
        "MaxSnaps": str(snapshots),
        "MaxInodes": str(3 * snapshots),
        "MaxCrashes": "1",
        "MaxErrors": "0",
        "Ops": ops,
        "Bug": '"none"',
    }
    return Instance(name, "SeawallSnapshot", SNAPSHOT_INVARIANTS, {**constants, **changed})


# What the gate goes through completely.
GATE = [
    log("log, votes, a crash in recovery", "MenuCrash", 3, MaxCrashes="2"),
    log("log, a failed sync", "MenuVotes", 3, MaxErrors="1"),
    log("log, truncation", "MenuTruncates", 4),
    log("log, compaction and recycling", "MenuCompacts", 5),
    log("log, a media fault", "MenuVotes", 3, MaxRots="1"),
    snapshot("snapshots, published and compacted", '{"S", "C", "P"}', 3, 2),
    snapshot("snapshots, installed", '{"I", "E", "P"}', 2, 1),
    snapshot("snapshots, a crash in open", '{"S", "P"}', 2, 1, MaxCrashes="3"),
    snapshot("snapshots, a failed sync", '{"S", "I"}', 2, 2, MaxErrors="1"),
]
# What a release goes through besides.
FULL = [
    log("log, all of it", "MenuFull", 3, MaxCrashes="2", MaxErrors="1", MaxRots="1"),
    snapshot("snapshots, all of it", '{"S", "I", "X", "E", "C", "P"}', 3, 2, MaxErrors="1", MaxCrashes="2"),
]


# The log without bounds, for what the simulator recorded. P3, P5 and P6 need the meaning of records, which
# a trace does not carry.
TRACES = dataclasses.replace(
    log("traces", "{}", 1_000, Files="TraceFiles", Slots="1000", MaxFlights="3", MaxCrashes="1000",
        Live="TraceLive", AnyTime="TRUE"),
    module="SeawallTrace", invariants="P1 P2 P4 P10 P12 P14Mark P15 P16", specification="TSpec")


def log_bug(name, law, caught_by, text, menu="MenuEntries", length=3, **changed):
    """A planted bug of the log and the least instance that shows it."""
    whole = log(name, menu, length, Bug=f'"{name}"', **changed)
    return Bug(name, law, text, caught_by, dataclasses.replace(whole, invariants=caught_by))


def snapshot_bug(name, law, caught_by, text, ops='{"S", "P"}', records=2, snapshots=1, **changed):
    """A planted bug of the snapshots and the least instance that shows it."""
    whole = snapshot(name, ops, records, snapshots, Bug=f'"{name}"', **changed)
    return Bug(name, law, text, caught_by, dataclasses.replace(whole, invariants=caught_by))


BUGS = [
    log_bug("AckBeforeSync", "L9", "P1", "a batch is acknowledged before its sync returns"),
    log_bug("AckOutOfOrder", "L9", "P1", "a batch is acknowledged before an earlier one", MaxErrors="1"),
    log_bug("SharedDescription", "L9", "P1", "concurrent syncs share one description", MaxErrors="1"),
    log_bug("SyncRetried", "L9", "P1", "a failed sync is retried and believed", MaxErrors="1"),
    log_bug("NotPoisoned", "P16", "P16", "the handle goes on after a failed sync", MaxErrors="1"),
    log_bug("MarkIsMaximum", "P14", "P12", "the mark is the maximum of returned syncs",
            Slots="3", MaxFlights="3", MaxErrors="1"),
    log_bug("LaterFrameProves", "L6", "P12", "a later valid frame proves the ones before it"),
    log_bug("OverwriteInPlace", "L1", "P1", "an entry goes where a truncated one stood",
            menu="MenuOverwrites", Slots="4"),
    log_bug("SealedBeforeData", "L2", "P1", "the end of a segment is durable before what it keeps"),
    log_bug("TruncateAckedEarly", "P3", "P3", "a truncation is acknowledged before it is durable",
            menu="MenuOverwrites", Slots="4"),
    log_bug("NameNotSynced", "L11", "P1", "a segment is written before its name is durable"),
    log_bug("HeadNotSynced", "L10", "P1", "a batch follows a checkpoint that is not durable"),
    log_bug("HighWaterTooEarly", "P12", "P12", "the high-water file names a segment that is not durable"),
    log_bug("IdleMarkTooEarly", "P14", "P12", "the high-water file marks what is still in flight"),
    log_bug("RecycledBeforeDurable", "L10", "P2",
            "a segment is recycled before what emptied it is durable", menu="MenuCompacts", length=5),
    log_bug("RecycledBeforeCarry", "L10", "P1",
            "a segment is recycled before the carried state is durable", menu="MenuControl", MaxCrashes="2"),
    log_bug("CarryForgetsVote", "L10", "P5", "the carried state has no vote", menu="MenuVotes"),
    log_bug("CarryForgetsCommit", "L10", "P6", "the carried state has no commit index", menu="MenuCommits"),
    log_bug("OneVoteCopy", "L4", "P5Rot", "a vote is written once", menu="MenuVotes", MaxRots="1"),
    log_bug("SyncedNotRewritten", "L3", "P10",
            "recovery syncs what stands above the mark and does not write it again",
            MaxErrors="1", MaxCrashes="2"),
    log_bug("CutNotSynced", "L3", "P10", "recovery does not sync what it wrote", MaxCrashes="2"),
    log_bug("ResealedBeforeCarry", "L3", "P1",
            "a segment is cut before what stood above the cut is durable elsewhere", MaxCrashes="2"),
    log_bug("RecoveredToIgnored", "P11", "P11",
            "the output of an interrupted recovery is taken for whole", MaxCrashes="2"),
    log_bug("InterruptedStartIsDamage", "P12", "P12", "a start that a crash cut short is called damage"),
    log_bug("TornCalledCorrupt", "L5", "P12", "a torn tail is called damage"),
    log_bug("RotTakenForTorn", "P14", "P14", "damage below a mark is cut like a torn tail",
            Slots="3", MaxRots="1"),
    log_bug("MaybeAckedUnsaid", "P15", "P15", "the report does not say what may have been acknowledged"),
    log_bug("BatchSplit", "P2", "P2", "a batch is written as two frames", menu="MenuVotes"),
    log_bug("StaleFramePasses", "L11", "P4", "nothing tells an old frame from a new one",
            menu="MenuCompacts", length=6),
    snapshot_bug("ChunksNotSynced", "P7", "P7", "a snapshot is published before its chunks are synced"),
    snapshot_bug("ManifestNotSynced", "P7", "P7", "a snapshot is published before its manifest is synced"),
    snapshot_bug("NamesNotSynced", "P7", "P7", "a snapshot is published before its names are durable"),
    snapshot_bug("StaleChunkReused", "L3", "P7", "a left-over chunk that no durable pointer covers is trusted",
                 snapshots=2, MaxCrashes="2"),
    snapshot_bug("CompactedUncovered", "P9", "P9", "a purge goes before a durable pointer that covers it"),
    snapshot_bug("PurgedBeforeDurable", "L10", "P8", "a segment is recycled before its purge is durable"),
    snapshot_bug("OldDroppedEarly", "P7", "P7", "an old snapshot goes before its successor's pointer is durable",
                 ops='{"S", "C"}', records=3, snapshots=2),
    snapshot_bug("SharedChunkDropped", "P7", "P7", "an old snapshot takes a chunk along that the new one needs",
                 ops='{"S", "C"}', records=3, snapshots=2),
    snapshot_bug("SweptBeforeRecovery", "P10", "P7", "open removes files before the pointer that frees them is durable",
                 ops='{"S", "C"}', records=3, snapshots=2, MaxCrashes="2"),
    snapshot_bug("ResetBeforePointer", "P9", "P9", "an installation resets the log before its pointer is durable",
                 ops='{"I"}'),
    snapshot_bug("SuffixKept", "P8", "P8", "an installation keeps a suffix of another term", ops='{"I", "E"}'),
    snapshot_bug("StaleInstalled", "P6", "P6", "a snapshot older than the log is installed",
                 ops='{"I", "S", "P"}', records=3, snapshots=2),
    snapshot_bug("ChunkSyncRetried", "L9", "P7", "a chunk whose sync failed is taken for synced", MaxErrors="1"),
    snapshot_bug("NamesTrustedAgain", "L9", "P7", "names are trusted after a sync of the directory failed",
                 snapshots=2, MaxErrors="1"),
]
