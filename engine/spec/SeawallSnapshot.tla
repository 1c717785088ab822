--------------------------- MODULE SeawallSnapshot ---------------------------
(***************************************************************************)
(* Snapshots of one group: files, pointer, compaction, installation, and   *)
(* the removal of what nobody needs any more.                              *)
(*                                                                         *)
(* Owns: chunks and manifests with their names, the pointer record, the    *)
(* purge of entries and of old files, the sweep at open. Follows           *)
(* engine/src/snapshot/{builder,usage,collect}.rs, engine/snapshots.rs and *)
(* log.rs. Does not know how a record becomes durable: SeawallLog shows    *)
(* that open returns a prefix of the stream that holds every acknowledged  *)
(* record, and that what it returned stays; here the log is such a stream. *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
  MaxRecs,     \* records after those that the store begins with
  MaxSnaps,    \* snapshots that are begun
  MaxInodes,   \* files that are created
  MaxCrashes, MaxErrors,
  Ops,         \* the kinds of record that the host may cause
  Bug

VARIABLES
  log,      \* the stream as written
  dur,      \* how much of it is durable and acknowledged
  gone,     \* positions of entries whose segment was recycled
  nm,       \* name -> inode, 0 for none; with what a power loss may leave
  ino,      \* inode -> whether its bytes are whole
  known,    \* ChunkUse: names that a durable pointer covers or that this process synced
  doubt,    \* ChunkUse::names_in_doubt
  bl,       \* the builder
  snaps,    \* what each snapshot covers
  pc,       \* "up", "down" or a step of open
  acked,    \* the greatest dur that a host has seen, or an open has returned
  crashes, errors

vars == <<log, dur, gone, nm, ino, known, doubt, bl, snaps, pc, acked, crashes, errors>>

Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Prefix(s, n) == SubSeq(s, 1, n)

-----------------------------------------------------------------------------
(* A place on disk, as in SeawallLog. *)
Clean(v) == [c |-> v, d |-> {}, w |-> FALSE]
Possible(x) == x.d \union {x.c}
Put(x, v) == [c |-> v, d |-> Possible(x) \ {v}, w |-> TRUE]
Synced(x) == IF x.w THEN Clean(x.c) ELSE x
Failed(x) == [x EXCEPT !.w = FALSE]
Whole == "whole"
Torn == "torn"

(* Names: manifest s is s, its own chunk 100 + s, and every snapshot begins with the chunk 100. *)
Snaps == 1..MaxSnaps
Chunks(s) == {100, 100 + s}
FilesOf(s) == {s} \union Chunks(s)
Names == Snaps \union {100} \union {100 + s : s \in Snaps}

-----------------------------------------------------------------------------
(* Records: E an entry, C the commit index to the last entry, S an owned   *)
(* pointer, X an external one, P a compaction to the pointer, I an         *)
(* installation (its own pointer), R and its S the halves of one that a    *)
(* planted bug makes of it.                                                *)

Zero == [base |-> 0, bterm |-> 1, ents |-> <<>>, commit |-> 0, ptr |-> 0, pidx |-> 0, pterm |-> 1]
Last(st) == st.base + Len(st.ents)
TermAt(st, i) == IF i = st.base THEN st.bterm ELSE st.ents[i - st.base].t
LastTerm(st) == TermAt(st, Last(st))
After(st, i) == IF i >= Last(st) THEN <<>> ELSE SubSeq(st.ents, i - st.base + 1, Len(st.ents))
Apply(st, p, r) ==
  CASE r.k = "E" -> [st EXCEPT !.ents = Append(@, [p |-> p, t |-> r.t])]
    [] r.k = "C" -> [st EXCEPT !.commit = Last(st)]
    [] r.k = "S" -> [st EXCEPT !.ptr = r.s, !.pidx = r.i, !.pterm = r.t]
    [] r.k = "X" -> [st EXCEPT !.ptr = 0, !.pidx = r.i, !.pterm = r.t]
    [] r.k = "P" -> [st EXCEPT !.base = r.i, !.bterm = r.t, !.ents = After(st, r.i)]
    [] r.k \in {"I", "R"} ->
         [st EXCEPT !.base = r.i, !.bterm = r.t, !.ents = IF r.keep THEN After(st, r.i) ELSE <<>>,
                    !.commit = IF r.i > @ THEN r.i ELSE @,
                    !.ptr = IF r.k = "I" THEN r.s ELSE @, !.pidx = IF r.k = "I" THEN r.i ELSE @,
                    !.pterm = IF r.k = "I" THEN r.t ELSE @]
RECURSIVE FoldFrom(_, _, _)
FoldFrom(st, p, l) == IF l = <<>> THEN st ELSE FoldFrom(Apply(st, p, Head(l)), p + 1, Tail(l))
Fold(l) == FoldFrom(Zero, 1, l)
Now == Fold(log)
(* Every state that a crash now may bring back. *)
Futures == {Fold(Prefix(log, n)) : n \in dur..Len(log)}
Rec(k, i, t, s, keep) == [k |-> k, i |-> i, t |-> t, s |-> s, keep |-> keep]

Idle == [on |-> FALSE, s |-> 0, how |-> "-", todo |-> {}, name |-> 0, step |-> "-"]

(* Opened, with two committed entries and one that is not. *)
Begun == <<Rec("E", 0, 1, 0, FALSE), Rec("E", 0, 1, 0, FALSE), Rec("C", 0, 0, 0, FALSE), Rec("E", 0, 1, 0, FALSE)>>
Init ==
  /\ log = Begun /\ dur = Len(Begun) /\ gone = {} /\ nm = [x \in Names |-> Clean(0)] /\ ino = <<>>
  /\ known = {} /\ doubt = FALSE /\ bl = Idle /\ snaps = <<>> /\ pc = "up"
  /\ acked = Len(Begun) /\ crashes = 0 /\ errors = 0

-----------------------------------------------------------------------------
(* The log: written in order, durable in order. *)

Room(n) == Len(log) + n <= Len(Begun) + MaxRecs
Keep == UNCHANGED <<gone, nm, ino, known, doubt, snaps, pc, crashes, errors>>
Issue(r) == log' = Append(log, r) /\ UNCHANGED <<dur, acked>>
AppendEntry == "E" \in Ops /\ pc = "up" /\ Room(1) /\ Issue(Rec("E", 0, LastTerm(Now), 0, FALSE)) /\ UNCHANGED bl /\ Keep
Commit == "C" \in Ops /\ pc = "up" /\ Room(1) /\ Last(Now) > Now.commit /\ Issue(Rec("C", 0, 0, 0, FALSE)) /\ UNCHANGED bl /\ Keep
External ==
  /\ "X" \in Ops /\ pc = "up" /\ Room(1) /\ Now.commit > Now.pidx /\ Now.commit >= Now.base
  /\ Issue(Rec("X", Now.commit, TermAt(Now, Now.commit), 0, FALSE)) /\ UNCHANGED bl /\ Keep
LogSync ==
  /\ pc = "up" /\ dur < Len(log)
  /\ dur' = Len(log) /\ acked' = Len(log) /\ UNCHANGED <<log, bl>> /\ Keep
(* submit::Draft::compact: only what a pointer of this or an earlier batch covers. *)
Compact ==
  /\ "P" \in Ops /\ pc = "up" /\ Room(1)
  /\ LET to == IF Bug = "CompactedUncovered" THEN Now.commit ELSE Now.pidx
     IN /\ to > Now.base /\ to <= Last(Now)
        /\ Issue(Rec("P", to, TermAt(Now, to), 0, FALSE))
  /\ UNCHANGED bl /\ Keep
(* Log::recycle: segments whose entries no state needs that a crash may bring back. *)
Recycle ==
  /\ pc = "up"
  /\ LET needed == IF Bug = "PurgedBeforeDurable" THEN {Now} ELSE Futures
         entries == {p \in 1..Len(log) : log[p].k = "E"}
         live == UNION {{st.ents[i].p : i \in DOMAIN st.ents} : st \in needed}
     IN /\ (entries \ live) \ gone # {}
        /\ gone' = gone \union (entries \ live)
  /\ UNCHANGED <<log, dur, nm, ino, known, doubt, bl, snaps, pc, acked, crashes, errors>>

-----------------------------------------------------------------------------
(* SnapshotBuilder: each chunk is written and synced, then the manifest,   *)
(* then the directory; then the pointer is written.                        *)

Stay == UNCHANGED <<log, dur, gone, pc, acked, crashes>>
Start(how, i, t) ==
  /\ how \in Ops
  /\ bl' = [on |-> TRUE, s |-> Len(snaps) + 1, how |-> how, todo |-> Chunks(Len(snaps) + 1), name |-> 0, step |-> "chunks"]
  /\ snaps' = Append(snaps, [i |-> i, t |-> t])
Begin ==
  /\ pc = "up" /\ ~bl.on /\ Len(snaps) < MaxSnaps
  /\ \/ Now.commit > Now.pidx /\ Now.commit >= Now.base /\ Start("S", Now.commit, TermAt(Now, Now.commit))
     \* A leader's: beyond the log, matching an entry, or against the last one.
     \/ Start("I", Last(Now) + 1, LastTerm(Now) + 1)
     \/ Now.commit > Now.pidx /\ Now.commit > Now.base /\ Start("I", Now.commit, TermAt(Now, Now.commit))
     \/ Last(Now) - 1 > Now.commit /\ Last(Now) - 1 > Now.pidx /\ Last(Now) - 1 > Now.base
          /\ Start("I", Last(Now) - 1, LastTerm(Now) + 1)
     \* One that the log has gone past meanwhile: it must be refused.
     \/ Bug = "StaleInstalled" /\ Now.base > 1 /\ Start("I", Now.base - 1, Now.bterm)
  /\ UNCHANGED <<nm, ino, known, doubt, errors>> /\ Stay
(* SnapshotBuilder::place: what is known is used, anything else is absent, whatever a read shows (L3). *)
Write(x) ==
  /\ pc = "up" /\ bl.on /\ bl.name = 0
  /\ \/ bl.step = "chunks" /\ bl.todo # {} /\ x = Min(bl.todo)
     \/ bl.step = "chunks" /\ bl.todo = {} /\ x = bl.s
  /\ LET there == nm[x].c # 0
         trusted == x \in known \/ (Bug = "StaleChunkReused" /\ there)
         next == [bl EXCEPT !.todo = @ \ {x}, !.step = IF x = bl.s THEN "names" ELSE @]
     IN IF trusted
        THEN bl' = next /\ known' = known \union {x} /\ UNCHANGED <<nm, ino>>
        ELSE /\ Len(ino) < MaxInodes
             /\ ino' = Append(ino, Put(Clean(Torn), Whole))
             /\ nm' = [nm EXCEPT ![x] = Put(@, Len(ino) + 1)]
             /\ bl' = [next EXCEPT !.name = x] /\ UNCHANGED known
  /\ UNCHANGED <<doubt, snaps, errors>> /\ Stay
Skipped(x) == (Bug = "ChunksNotSynced" /\ x > 100) \/ (Bug = "ManifestNotSynced" /\ x \in Snaps)
SyncData ==
  /\ bl.on /\ bl.name # 0 /\ pc = "up"
  /\ ino' = IF Skipped(bl.name) THEN ino ELSE [ino EXCEPT ![nm[bl.name].c] = Synced(@)]
  /\ known' = known \union {bl.name} /\ bl' = [bl EXCEPT !.name = 0]
  /\ UNCHANGED <<nm, doubt, snaps, errors>> /\ Stay
(* It fails: the builder is spent, and what it held and nobody needs is removed. *)
Held == {x \in FilesOf(bl.s) : x \in known \/ x = bl.name}
StatesNeed == UNION {IF st.ptr = 0 THEN {} ELSE FilesOf(st.ptr) : st \in Futures}
Removed(names) == [x \in Names |-> IF x \in names /\ nm[x].c # 0 THEN Put(nm[x], 0) ELSE nm[x]]
SyncDataFails ==
  /\ bl.on /\ bl.name # 0 /\ pc = "up" /\ errors < MaxErrors
  /\ ino' = [ino EXCEPT ![nm[bl.name].c] = Failed(@)]
  /\ errors' = errors + 1
  /\ IF Bug = "ChunkSyncRetried"
     THEN known' = known \union {bl.name} /\ bl' = [bl EXCEPT !.name = 0] /\ UNCHANGED nm
     ELSE /\ nm' = Removed(Held \ StatesNeed) /\ known' = known \ (Held \ StatesNeed) /\ bl' = Idle
  /\ UNCHANGED <<doubt, snaps>> /\ Stay
SyncNames ==
  /\ pc = "up" /\ bl.step = "names" /\ bl.name = 0
  /\ nm' = IF Bug = "NamesNotSynced" THEN nm ELSE [x \in Names |-> Synced(nm[x])]
  /\ IF doubt /\ Bug # "NamesTrustedAgain"
     THEN bl' = Idle /\ known' = known \ (Held \ StatesNeed)
     ELSE bl' = [bl EXCEPT !.step = "sealed"] /\ UNCHANGED known
  /\ UNCHANGED <<ino, doubt, snaps, errors>> /\ Stay
SyncNamesFails ==
  /\ pc = "up" /\ bl.step = "names" /\ bl.name = 0 /\ errors < MaxErrors
  /\ nm' = [x \in Names |-> Failed(nm[x])] /\ doubt' = TRUE /\ errors' = errors + 1
  /\ bl' = Idle /\ known' = IF Bug = "NamesTrustedAgain" THEN known ELSE known \ (Held \ StatesNeed)
  /\ UNCHANGED <<ino, snaps>> /\ Stay
(* SnapshotWriter::finish and submit::Draft: the pointer, or a refusal that takes the files with it. *)
Point ==
  /\ pc = "up" /\ bl.step = "sealed" /\ Room(IF Bug = "ResetBeforePointer" THEN 2 ELSE 1)
  /\ LET s == snaps[bl.s]
         st == Now
         floor == IF st.pidx > st.base THEN st.pidx ELSE st.base
         known_at == s.i >= st.base /\ s.i <= Last(st)
         agrees == known_at /\ TermAt(st, s.i) = s.t
         stale == s.i < floor /\ Bug # "StaleInstalled"
         refused == stale \/ (bl.how = "S" /\ ~agrees) \/ (bl.how = "I" /\ known_at /\ ~agrees /\ s.i <= st.commit)
         keep == agrees \/ (known_at /\ Bug = "SuffixKept")
     IN IF refused
        THEN /\ nm' = Removed(Held \ StatesNeed) /\ known' = known \ (Held \ StatesNeed) /\ UNCHANGED log
        ELSE /\ log' = CASE bl.how = "S" -> Append(log, Rec("S", s.i, s.t, bl.s, FALSE))
                         [] Bug = "ResetBeforePointer" ->
                              log \o <<Rec("R", s.i, s.t, 0, keep), Rec("S", s.i, s.t, bl.s, FALSE)>>
                         [] OTHER -> Append(log, Rec("I", s.i, s.t, bl.s, keep))
             /\ UNCHANGED <<nm, known>>
  /\ bl' = Idle
  /\ UNCHANGED <<dur, acked, ino, gone, doubt, snaps, pc, crashes, errors>>
(* Shared::reclaim and collect::retire: the files of a snapshot that no durable state can name again. *)
Retire ==
  /\ pc = "up"
  /\ LET pointed == {log[p].s : p \in {p \in 1..Len(log) : log[p].k \in {"S", "I"}}}
         current == IF Bug = "OldDroppedEarly"
                    THEN IF Now.ptr = 0 THEN {} ELSE FilesOf(Now.ptr) ELSE StatesNeed
         held == IF Bug = "SharedChunkDropped" THEN {} ELSE current \union (IF bl.on THEN Held ELSE {})
         \* Planted: without counts only the manifest tells whether a snapshot is needed.
         old == {s \in pointed : s \notin (current \intersect Snaps)}
         unneeded == {x \in known \intersect UNION {FilesOf(s) : s \in old} : x \notin held}
     IN /\ unneeded # {}
        /\ nm' = [x \in Names |-> IF x \in unneeded THEN Put(nm[x], 0) ELSE nm[x]]
        /\ known' = known \ unneeded
  /\ UNCHANGED <<ino, doubt, bl, snaps, errors>> /\ Stay

-----------------------------------------------------------------------------
(* The end of a process, and open. *)

RECURSIVE Outcomes(_)
Outcomes(s) == IF s = <<>> THEN {<<>>}
               ELSE {Append(t, Clean(v)) : t \in Outcomes(Prefix(s, Len(s) - 1)), v \in Possible(s[Len(s)])}
RECURSIVE NameOutcomes(_, _)
NameOutcomes(f, left) ==
  IF left = {} THEN {f}
  ELSE LET x == Max(left) IN UNION {NameOutcomes([f EXCEPT ![x] = Clean(v)], left \ {x}) : v \in Possible(f[x])}

End == known' = {} /\ doubt' = FALSE /\ bl' = Idle /\ pc' = "down" /\ crashes' = crashes + 1 /\ crashes < MaxCrashes
Die == pc # "down" /\ End /\ UNCHANGED <<log, dur, gone, nm, ino, snaps, acked, errors>>
PowerLoss ==
  /\ End
  /\ \E n \in dur..Len(log) : log' = Prefix(log, n) /\ dur' = n
  /\ nm' \in NameOutcomes(nm, {x \in Names : nm[x].d # {}})
  /\ ino' \in Outcomes(ino)
  /\ UNCHANGED <<gone, snaps, acked, errors>>

(* recovery::check_snapshots: the manifest holds and the chunks are there. *)
Holds(x) == nm[x].c # 0 /\ ino[nm[x].c].c = Whole
Refused == \/ Now.ptr # 0 /\ ~(Holds(Now.ptr) /\ \A x \in Chunks(Now.ptr) : nm[x].c # 0)
           \/ \E i \in DOMAIN Now.ents : Now.ents[i].p \in gone
Needed == IF Now.ptr = 0 THEN {} ELSE FilesOf(Now.ptr)
Swept == [x \in Names |-> IF x \notin Needed /\ nm[x].c # 0 /\ ~(Bug = "StaleChunkReused" /\ x >= 100)
                          THEN Put(nm[x], 0) ELSE nm[x]]
(* recovery::apply: what it returns is durable first. *)
OpenLog ==
  /\ pc = "down" /\ ~Refused
  /\ IF Bug = "SweptBeforeRecovery" THEN nm' = Swept /\ UNCHANGED dur ELSE dur' = Len(log) /\ UNCHANGED nm
  /\ pc' = "open1"
  /\ UNCHANGED <<log, gone, ino, known, doubt, bl, snaps, acked, crashes, errors>>
(* collect::load and collect::sweep. *)
OpenSweep ==
  /\ pc = "open1"
  /\ nm' = Swept /\ dur' = Len(log) /\ pc' = "open2"
  /\ UNCHANGED <<log, gone, ino, known, doubt, bl, snaps, acked, crashes, errors>>
OpenDone ==
  /\ pc = "open2"
  /\ nm' = [x \in Names |-> Synced(nm[x])]
  /\ known' = Needed /\ pc' = "up" /\ acked' = dur
  /\ UNCHANGED <<log, dur, gone, ino, doubt, bl, snaps, crashes, errors>>

Next ==
  \/ AppendEntry \/ Commit \/ External \/ LogSync \/ Compact \/ Recycle
  \/ Begin \/ (\E x \in Names : Write(x)) \/ SyncData \/ SyncDataFails \/ SyncNames \/ SyncNamesFails
  \/ Point \/ Retire \/ Die \/ PowerLoss \/ OpenLog \/ OpenSweep \/ OpenDone
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* The properties, of what an open finds. *)

Asked == pc = "down"
P1 == Asked => Len(log) >= acked
(* An owned snapshot is there whole, byte for byte. *)
P7 == Asked /\ Now.ptr # 0 => \A x \in FilesOf(Now.ptr) : Holds(x)
(* The first index follows the purged one, whose term is known and not above what follows; nothing between is missing. *)
P8 == Asked => \A i \in DOMAIN Now.ents :
        /\ Now.ents[i].p \notin gone
        /\ Now.ents[i].t >= (IF i = 1 THEN Now.bterm ELSE Now.ents[i - 1].t)
(* What is missing at the front is covered by a durable pointer. *)
P9 == Asked => Now.base <= Now.pidx
P6 == Asked => Now.commit <= Last(Now)
(* After an open nothing is left of what no pointer names: space does not grow with crashes. *)
P11 == pc = "open2" => \A x \in Names : nm[x].c # 0 => x \in Needed
P12 == Asked => ~Refused
=============================================================================
