----------------------------- MODULE SeawallLog -----------------------------
(***************************************************************************)
(* The log of one store, its votes, and what open finds after a crash.     *)
(*                                                                         *)
(* Owns: frames, marks, syncs in flight, acknowledgement, rotation,        *)
(* recycling, checkpoints at a segment's start, the high-water file,       *)
(* recovery at each of its steps, one media fault. Follows                 *)
(* engine/src/{commit,log,recovery}.rs step by step; the name of the       *)
(* function stands at each action. Does not know: snapshots' files (see    *)
(* SeawallSnapshot), lengths of files, bytes.                              *)
(*                                                                         *)
(* What one thing stands for: a position is a frame, which is the unit of  *)
(* writing, of atomicity and of acknowledgement; one group; a frame that   *)
(* is torn is like one that was not written, for neither has a checksum    *)
(* that holds; a sync followed by a write is one step, for the state       *)
(* between them is one of those that a crash before the write leaves.      *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
  Files,          \* inodes: 1..n
  Slots,          \* frames in a segment
  MaxFlights,     \* syncs at once
  MaxPos,         \* the length of the stream
  Menu,           \* for each position the kinds of record that may stand there
  MaxCrashes,     \* process deaths, power losses and closes
  MaxErrors,      \* failed syncs
  MaxRots,        \* media faults, at most 1
  Live(_),        \* the positions whose entries a state of the stream needs
  AnyTime,        \* whether a rotation may come before a segment is full, from any spare
  Bug             \* the planted bug, or "none"

VARIABLES
  F,       \* file -> name, head (header and checkpoint), slots, foot (footer); each with what is on disk
  hw,      \* the high-water file
  pc,      \* what the process does: "up", a step of something, or "down"
  act,     \* the segment that is written
  nx,      \* the file that is about to become a segment
  fl,      \* flights: frames that were written and are not acknowledged, in order
  dur,     \* Front::durable
  iss,     \* the stream as issued
  acked,   \* what the host was told is durable
  shown,   \* what the last open returned
  poison,  \* -1, or acked when the handle was poisoned
  res,     \* what recovery decides on the files as it reads them, while "down" or recovering
  ep,      \* the epoch
  werr,    \* a writeback error: on which segment, and which descriptions were told
  crashes, errors,
  pin,     \* what a recovery that began on a disk with nothing in doubt must find again
  rot      \* the media fault

vars == <<F, hw, pc, act, nx, fl, dur, iss, acked, shown, poison, res, ep, werr, crashes, errors, pin, rot>>

Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Prefix(s, n) == SubSeq(s, 1, n)
IsPrefix(s, t) == Len(s) <= Len(t) /\ Prefix(t, Len(s)) = s

-----------------------------------------------------------------------------
(* One place on disk: what reads show (c), what else a power loss may      *)
(* leave there (d), and whether a sync would write it (w). After a failed  *)
(* sync a page is clean, and d is not empty (M4).                          *)

Clean(v) == [c |-> v, d |-> {}, w |-> FALSE]
Possible(x) == x.d \union {x.c}
Put(x, v) == [c |-> v, d |-> Possible(x) \ {v}, w |-> TRUE]
Synced(x) == IF x.w THEN Clean(x.c) ELSE x
Failed(x) == [x EXCEPT !.w = FALSE]
(* The same, and reads show the old bytes again. *)
Reverted(x) == LET old == CHOOSE v \in x.d : TRUE
               IN IF x.w /\ x.d # {} THEN [c |-> old, d |-> Possible(x) \ {old}, w |-> FALSE] ELSE Failed(x)

Each(op(_), s) == [i \in DOMAIN s |-> op(s[i])]
PutAt(s, i, v, blank) == IF i > Len(s) THEN Append(s, Put(Clean(blank), v)) ELSE [s EXCEPT ![i] = Put(@, v)]
RECURSIVE Outcomes(_)
Outcomes(s) == IF s = <<>> THEN {<<>>}
               ELSE {Append(t, Clean(v)) : t \in Outcomes(Prefix(s, Len(s) - 1)), v \in Possible(s[Len(s)])}

FileOutcomes(f) == {[n |-> Clean(a), h |-> Clean(b), s |-> t, t |-> Clean(x)] :
                      a \in Possible(f.n), b \in Possible(f.h), t \in Outcomes(f.s), x \in Possible(f.t)}
RECURSIVE DiskOutcomes(_, _)
DiskOutcomes(G, left) ==
  IF left = {} THEN {G}
  ELSE LET f == CHOOSE f \in left : TRUE
       IN UNION {DiskOutcomes([G EXCEPT ![f] = o], left \ {f}) : o \in FileOutcomes(G[f])}

SyncFile(f) == [f EXCEPT !.h = Synced(@), !.s = Each(Synced, @), !.t = Synced(@)]
FailFile(f) == [f EXCEPT !.h = Failed(@), !.s = Each(Failed, @), !.t = Failed(@)]
SyncDir(G) == [f \in Files |-> [G[f] EXCEPT !.n = Synced(@)]]

-----------------------------------------------------------------------------
(* Records and states. Kinds: E an entry, V a vote of the next term, B a   *)
(* batch of both, T a truncation of the last entry, C the commit index to  *)
(* the last entry, P an external snapshot pointer and the compaction to    *)
(* it. H is the first half of a batch that a planted bug cuts in two.      *)

Zero == [base |-> 0, ents |-> <<>>, vote |-> 0, commit |-> 0, ptr |-> 0]
Top(st) == st.base + Len(st.ents)
Allowed(st, k) ==
  CASE k = "T" -> Top(st) > st.commit /\ Len(st.ents) > 0
    [] k = "C" -> Top(st) > st.commit
    [] k = "P" -> st.commit > st.base
    [] OTHER -> TRUE
Apply(st, p, k) ==
  CASE k = "E" -> [st EXCEPT !.ents = Append(@, [p |-> p, t |-> st.vote])]
    [] k \in {"V", "H"} -> [st EXCEPT !.vote = @ + 1]
    [] k = "B" -> [st EXCEPT !.vote = @ + 1, !.ents = Append(@, [p |-> p, t |-> st.vote + 1])]
    [] k = "T" -> [st EXCEPT !.ents = Prefix(@, Len(@) - 1)]
    [] k = "C" -> [st EXCEPT !.commit = Top(st)]
    [] k = "P" -> [st EXCEPT !.ptr = st.commit, !.base = st.commit,
                             !.ents = SubSeq(@, st.commit - st.base + 1, Len(@))]
    [] OTHER -> st
RECURSIVE FoldFrom(_, _, _)
FoldFrom(st, from, h) == IF h = <<>> THEN st ELSE FoldFrom(Apply(st, from, Head(h).k), from + 1, Tail(h))
Fold(h) == FoldFrom(Zero, 1, h)
LiveInFold(h) == {Fold(h).ents[i].p : i \in DOMAIN Fold(h).ents}
HasVote(k) == k \in {"V", "B"}
(* Entries that a truncation took, at their positions. *)
RECURSIVE Truncated(_)
Truncated(h) == IF h = <<>> THEN {}
                ELSE LET p == Len(h)
                         before == Fold(Prefix(h, p - 1))
                     IN Truncated(Prefix(h, p - 1)) \union
                        (IF h[p].k = "T" /\ Len(before.ents) > 0 THEN {before.ents[Len(before.ents)].p} ELSE {})

-----------------------------------------------------------------------------
NoFrame == [seg |-> 0, pos |-> 0, rec |-> [k |-> "-", e |-> 0], mark |-> 0, kd |-> "-"]
NoHead == [seg |-> 0, cut |-> 0, rto |-> 0, hist |-> <<>>]
NoFoot == [seg |-> 0, pos |-> 0, hist |-> <<>>, has |-> FALSE, by |-> "-", next |-> 0]
(* Names: -1 no file, 0 a spare, n segment n. *)
Blank(name) == [n |-> Clean(name), h |-> Clean(NoHead), s |-> <<>>, t |-> Clean(NoFoot)]

(* What a checkpoint carries: the state, which is a function of the stream up to the cut. *)
Carried(h) ==
  LET without(k) == CASE Bug = "CarryForgetsVote" /\ k = "V" -> "-"
                      [] Bug = "CarryForgetsVote" /\ k = "B" -> "E"
                      [] Bug = "CarryForgetsCommit" /\ k = "C" -> "-"
                      [] OTHER -> k
  IN [i \in DOMAIN h |-> [h[i] EXCEPT !.k = without(@)]]

(* Whether a frame read in a segment is one of its own: salt, place, position and chain. *)
Counts(fr, seg, pos) ==
  IF Bug = "StaleFramePasses" THEN fr.seg > 0 ELSE fr.seg = seg /\ fr.pos = pos
Belongs(fr, seg) == IF Bug = "StaleFramePasses" THEN fr.seg > 0 ELSE fr.seg = seg

-----------------------------------------------------------------------------
(* facts and recovery::decide, over what reads show. *)

Ids(G) == {G[f].n.c : f \in {f \in Files : G[f].n.c > 0}}
FileOf(G, s) == CHOOSE f \in Files : G[f].n.c = s
Frames(G, s) == Each(LAMBDA x : x.c, G[FileOf(G, s)].s)
HeadAt(G, s) == G[FileOf(G, s)].h.c
FootAt(G, s) == G[FileOf(G, s)].t.c
HeadOk(G, s) == HeadAt(G, s).seg = s
FootOk(G, s) == HeadOk(G, s) /\ FootAt(G, s).seg = s
Walked(G, s) ==
  LET fs == Frames(G, s)
      cut == HeadAt(G, s).cut
      n == Max({0} \union {n \in 1..Len(fs) : \A i \in 1..n : Counts(fs[i], s, cut + i)})
  IN IF HeadOk(G, s) THEN cut + n ELSE 0
(* Scan::mark: the largest in any believed header of the segment, also beyond the walk's end, and in the *)
(* high-water file if that names the segment.                                                           *)
LargestMark(G, H, s) ==
  LET fs == Frames(G, s)
      seen == {fs[i].mark : i \in {i \in DOMAIN fs : Belongs(fs[i], s)}}
      proof == IF Bug = "LaterFrameProves"
               THEN {fs[i].pos - 1 : i \in {i \in DOMAIN fs : Belongs(fs[i], s)}} ELSE {}
      high == IF H.c.seg = s THEN {H.c.pos} ELSE {}
  IN Max({HeadAt(G, s).cut} \union seen \union high \union proof)
WasLive(G, s) == \E i \in DOMAIN Frames(G, s) : Frames(G, s)[i].seg = s /\ Frames(G, s)[i].kd = "b"
Below(G, s) == {i \in Ids(G) : i < s}

(* recovery::candidate and recovery::standing. *)
Standing(G, H, s) ==
  LET sealed == FootOk(G, s) /\ FootAt(G, s).has
      complete == HeadOk(G, s) /\ (Walked(G, s) >= HeadAt(G, s).rto \/ Bug = "RecoveredToIgnored")
      named == Below(G, s) # {} /\ LET b == Max(Below(G, s))
                                   IN FootOk(G, b) /\ FootAt(G, b).by = "rec" /\ FootAt(G, b).next = s
      exposed == named \/ WasLive(G, s) \/ FootAt(G, s).seg = s \/ H.c.seg >= s
                 \/ Bug = "InterruptedStartIsDamage"
  IN IF sealed \/ complete THEN "newest" ELSE IF exposed THEN "damaged" ELSE "unfinished"

(* How far the frames of a segment count, given the newest. *)
Limit(G, s, newest) ==
  LET later == {i \in Ids(G) : i > s /\ i <= newest /\ HeadOk(G, i)}
  IN IF FootOk(G, s) THEN FootAt(G, s).pos
     ELSE IF later = {} THEN Walked(G, s) ELSE HeadAt(G, Min(later)).cut

(* Index::holes: every entry that is needed must stand in a segment. *)
Present(G, p, rec, newest) ==
  \E s \in Ids(G) :
    /\ s <= newest /\ HeadOk(G, s) /\ p > HeadAt(G, s).cut /\ p <= Limit(G, s, newest)
    /\ p - HeadAt(G, s).cut <= Len(Frames(G, s))
    /\ LET fr == Frames(G, s)[p - HeadAt(G, s).cut] IN Counts(fr, s, p) /\ fr.rec = rec

Refusal == [alarm |-> TRUE, hist |-> <<>>, mark |-> 0, big |-> 0, newest |-> 0, highest |-> 0,
            clean |-> FALSE, maybe |-> FALSE, unfinished |-> {}, holes |-> {}]

Decide(G, H) ==
  LET ids == Ids(G)
      standing == [s \in ids |-> Standing(G, H, s)]
      some == {s \in ids : standing[s] # "unfinished"}
      newest == Max(some)
      highest == Max(ids)
      head == HeadAt(G, newest)
      foot == FootAt(G, newest)
      sealed == FootOk(G, newest) /\ foot.has
      walked == Walked(G, newest)
      big == IF sealed THEN foot.pos ELSE LargestMark(G, H, newest)
      lost == ~sealed /\ big > walked /\ Bug # "RotTakenForTorn"
      low == IF big > walked THEN walked ELSE big
      mark == IF sealed THEN foot.pos
              ELSE IF Bug = "SyncedNotRewritten" THEN walked ELSE low
      recs == Each(LAMBDA fr : fr.rec, SubSeq(Frames(G, newest), 1, walked - head.cut))
      hist == IF sealed THEN foot.hist ELSE head.hist \o recs
      strays == {G[f].h.c.seg : f \in {f \in Files : G[f].n.c = 0}}
      holes == {p \in Live(hist) : ~Present(G, p, hist[p], newest)}
      alarm == \/ lost
               \/ holes # {}
               \/ sealed /\ foot.next > 0 /\ highest < foot.next
               \/ newest < H.c.seg
               \/ newest < Max(strays \union {0})
               \/ Len(hist) < H.c.pos
               \/ Bug = "TornCalledCorrupt" /\ ~sealed /\
                    \E i \in DOMAIN Frames(G, newest) : i > walked - head.cut /\ Belongs(Frames(G, newest)[i], newest)
  IN IF some = {} \/ standing[newest] = "damaged" THEN Refusal
     ELSE [alarm |-> alarm, hist |-> hist, mark |-> mark, big |-> big, newest |-> newest,
           highest |-> highest, clean |-> sealed, maybe |-> ~sealed /\ Bug # "MaybeAckedUnsaid",
           unfinished |-> {s \in ids : s > newest \/ ~HeadOk(G, s)}, holes |-> holes]

None == [Refusal EXCEPT !.alarm = FALSE]

-----------------------------------------------------------------------------
NoError == [seg |-> 0, told |-> {}]
NoRot == [pos |-> 0, hist |-> <<>>, vote |-> FALSE]
NoPin == [on |-> FALSE, hist |-> <<>>]
ActFile == FileOf(F, act)
Used == Len(iss) - F[ActFile].h.c.cut
Poisoned == poison >= 0 /\ Bug # "NotPoisoned"
Running == {"up", "rot1", "rot2", "rot3", "rot4", "rc", "idle", "cl1", "cl2"}
Recovering == {"rec1", "rec2", "rec3", "rec4", "rec5", "rec6"}
Spares == {f \in Files : F[f].n.c = 0}
Absent == {f \in Files : F[f].n.c = -1}
(* take_spare: a prepared segment, or a file made now. *)
Fresh == IF AnyTime THEN Spares \union Absent
         ELSE IF Spares # {} THEN {Min(Spares)} ELSE IF Absent # {} THEN {Min(Absent)} ELSE {}

(* A store as `create` leaves it: segment 1, closed; spares; the high-water file. *)
InitWith(spares, epoch) ==
  /\ F = [f \in Files |->
            IF f = 1 THEN [n |-> Clean(1), h |-> Clean([NoHead EXCEPT !.seg = 1]), s |-> <<>>,
                           t |-> Clean([NoFoot EXCEPT !.seg = 1, !.has = TRUE, !.by = "close"])]
            ELSE Blank(IF f <= 1 + spares THEN 0 ELSE -1)]
  /\ hw = Clean([seg |-> 1, pos |-> 0])
  /\ pc = "down" /\ act = 1 /\ nx = 1 /\ fl = <<>> /\ dur = 0 /\ iss = <<>> /\ acked = 0 /\ shown = 0
  /\ poison = -1 /\ ep = epoch /\ werr = NoError /\ crashes = 0 /\ errors = 0 /\ pin = NoPin /\ rot = NoRot
  /\ res = Decide(F, hw)
Init == InitWith(2, 1)

-----------------------------------------------------------------------------
(* commit::begin and Log::put: one frame to the active segment. The mark   *)
(* is what is acknowledged, sampled before.                                *)

Rec(k) == [k |-> k, e |-> ep]
MarkNow ==
  IF Bug = "MarkIsMaximum" THEN Max({dur} \union {fl[i].pos : i \in {i \in DOMAIN fl : fl[i].st \in {"ok", "done"}}})
  ELSE dur
(* L1, planted: an entry that replaces a truncated one goes where that stood. *)
SlotFor(pos) ==
  LET cut == F[ActFile].h.c.cut
      gone == {p \in Truncated(iss) : p > cut /\ F[ActFile].s[p - cut].c.seg = act}
  IN IF Bug = "OverwriteInPlace" /\ gone # {} THEN Max(gone) - cut ELSE pos - cut
Write(k) ==
  /\ pc = "up" /\ ~Poisoned /\ Len(fl) < MaxFlights /\ Allowed(Fold(iss), k)
  /\ LET split == Bug = "BatchSplit" /\ k = "B"
         recs == IF split THEN <<Rec("H"), Rec("E")>> ELSE <<Rec(k)>>
         pos == Len(iss) + 1
         frame(i) == [seg |-> act, pos |-> pos + i - 1, rec |-> recs[i], mark |-> MarkNow, kd |-> "b"]
         one == PutAt(F[ActFile].s, SlotFor(pos), frame(1), NoFrame)
     IN /\ Used + Len(recs) <= Slots
        /\ F' = [F EXCEPT ![ActFile].s = IF split THEN PutAt(one, SlotFor(pos) + 1, frame(2), NoFrame) ELSE one]
        /\ iss' = iss \o recs
        /\ fl' = Append(fl, [pos |-> Len(iss) + Len(recs), seg |-> act, f |-> ActFile, st |-> "w", cov |-> {}])
        /\ IF Bug = "TruncateAckedEarly" /\ k = "T" /\ fl = <<>>
           THEN acked' = Len(iss) + 1 /\ dur' = Len(iss) + 1
           ELSE UNCHANGED <<acked, dur>>
        (* Its description is opened before; an error that somebody was told of is history to it. *)
        /\ werr' = IF werr.told # {} THEN [werr EXCEPT !.told = @ \union {Len(iss) + Len(recs)}] ELSE werr
  /\ UNCHANGED <<hw, pc, act, nx, shown, poison, res, ep, crashes, errors, pin, rot>>

Submit == \E k \in Menu[IF Len(iss) < MaxPos THEN Len(iss) + 1 ELSE MaxPos] : Len(iss) < MaxPos /\ Write(k)

(* Flush::sync: what was written before it began, through a description of its own (L9). *)
SyncBegin(i) ==
  /\ pc \in Running /\ i \in DOMAIN fl /\ fl[i].st = "w"
  /\ fl' = [fl EXCEPT ![i].st = "s",
                      ![i].cov = LET s == F[fl[i].f].s IN {n \in DOMAIN s : s[n].w}]
  /\ UNCHANGED <<F, hw, pc, act, nx, dur, iss, acked, shown, poison, res, ep, werr, crashes, errors, pin, rot>>

Desc(i) == IF Bug = "SharedDescription" THEN 0 ELSE fl[i].pos
SyncEnd(i) ==
  /\ pc \in Running /\ i \in DOMAIN fl /\ fl[i].st = "s"
  /\ LET f == fl[i].f
         fails == werr.seg = fl[i].seg /\ Desc(i) \notin werr.told
     IN IF fails
        THEN /\ fl' = [fl EXCEPT ![i].st = "bad"]
             /\ werr' = [werr EXCEPT !.told = @ \union {Desc(i)}]
             /\ UNCHANGED F
        ELSE /\ fl' = [fl EXCEPT ![i].st = "ok", ![i].cov = {}]
             /\ F' = [F EXCEPT ![f].s = [n \in DOMAIN @ |-> IF n \in fl[i].cov THEN Synced(@[n]) ELSE @[n]]]
             /\ UNCHANGED werr
  /\ UNCHANGED <<hw, pc, act, nx, dur, iss, acked, shown, poison, res, ep, crashes, errors, pin, rot>>

(* The device refuses some of the active segment's unsynced pages (M4). *)
WritebackFails ==
  /\ pc \in {"up", "rot1"} /\ errors < MaxErrors /\ werr = NoError
  /\ \E bad \in (SUBSET {n \in DOMAIN F[ActFile].s : F[ActFile].s[n].w}) \ {{}}, back \in BOOLEAN :
       F' = [F EXCEPT ![ActFile].s =
               [n \in DOMAIN @ |-> IF n \notin bad THEN @[n] ELSE IF back THEN Reverted(@[n]) ELSE Failed(@[n])]]
  /\ errors' = errors + 1
  /\ werr' = [seg |-> act, told |-> {}]
  /\ UNCHANGED <<hw, pc, act, nx, fl, dur, iss, acked, shown, poison, res, ep, crashes, pin, rot>>

(* Shared::complete. *)
RECURSIVE Settle(_, _)
Settle(flights, d) == IF flights # <<>> /\ Head(flights).st = "done"
                      THEN Settle(Tail(flights), Head(flights).pos) ELSE <<flights, d>>
Remove(s, i) == Prefix(s, i - 1) \o SubSeq(s, i + 1, Len(s))
Complete(i) ==
  /\ pc \in Running /\ i \in DOMAIN fl
  /\ \/ fl[i].st \in {"ok", "bad"}
     \/ Bug = "AckBeforeSync" /\ fl[i].st = "w"
  /\ LET done == Settle([fl EXCEPT ![i].st = "done"], dur)
         now == IF Bug = "AckOutOfOrder" /\ fl[i].pos > done[2] THEN fl[i].pos ELSE done[2]
     IN CASE fl[i].st = "bad" /\ Bug = "SyncRetried" ->
               fl' = [fl EXCEPT ![i].st = "w"] /\ UNCHANGED <<dur, acked, poison>>
          [] fl[i].st = "bad" /\ Bug = "NotPoisoned" ->
               fl' = Remove(fl, i) /\ poison' = (IF poison = -1 THEN acked ELSE poison) /\ UNCHANGED <<dur, acked>>
          [] fl[i].st = "bad" \/ Poisoned ->
               fl' = Remove(fl, i) /\ poison' = (IF poison = -1 THEN acked ELSE poison) /\ UNCHANGED <<dur, acked>>
          [] OTHER ->
               fl' = done[1] /\ dur' = now /\ acked' = now /\ UNCHANGED poison
  /\ UNCHANGED <<F, hw, pc, act, nx, iss, shown, res, ep, werr, crashes, errors, pin, rot>>

-----------------------------------------------------------------------------
(* Log::rotate. The name first; then data and footer of the old segment;   *)
(* then header and checkpoint of the new one; then the high-water file.    *)

Same == UNCHANGED <<fl, dur, iss, acked, shown, res, ep, crashes, pin, rot>>
HighNow(s) == [seg |-> s, pos |-> Len(iss)]
RotateName ==
  /\ pc = "up" /\ ~Poisoned /\ Len(iss) < MaxPos /\ Len(fl) < MaxFlights /\ (Used >= Slots \/ AnyTime)
  /\ \E f \in Fresh : F' = [F EXCEPT ![f].n = Put(@, act + 1)] /\ nx' = f
  /\ hw' = IF Bug = "HighWaterTooEarly" THEN Put(hw, HighNow(act + 1)) ELSE hw
  /\ pc' = "rot1"
  /\ UNCHANGED <<act, poison, werr, errors>> /\ Same
(* A sync inside the rotation reports the error too: through a description of its own. *)
RotateReported ==
  /\ pc = "rot1" /\ werr.seg = act
  /\ pc' = "up" /\ poison' = acked
  /\ UNCHANGED <<F, hw, act, nx, werr, errors>> /\ Same
RotateSeal ==
  /\ pc = "rot1" /\ werr.seg # act
  /\ LET G == IF Bug = "NameNotSynced" THEN F ELSE SyncDir(F)
         old == IF Bug = "SealedBeforeData" THEN G[ActFile] ELSE SyncFile(G[ActFile])
         foot == [seg |-> act, pos |-> Len(iss), hist |-> iss, has |-> TRUE, by |-> "rot", next |-> act + 1]
     IN F' = [G EXCEPT ![ActFile] = [old EXCEPT !.t = Put(@, foot)]]
  /\ pc' = "rot2"
  /\ UNCHANGED <<hw, act, nx, poison, werr, errors>> /\ Same
RotateStart ==
  /\ pc = "rot2"
  /\ LET head == [seg |-> act + 1, cut |-> Len(iss), rto |-> Len(iss), hist |-> Carried(iss)]
     IN F' = [F EXCEPT ![ActFile] = SyncFile(@), ![nx].h = Put(@, head)]
  /\ pc' = "rot3"
  /\ UNCHANGED <<hw, act, nx, poison, werr, errors>> /\ Same
RotateSync ==
  /\ pc = "rot3"
  /\ F' = IF Bug = "HeadNotSynced" THEN F ELSE [F EXCEPT ![nx] = SyncFile(@)]
  /\ hw' = Put(hw, HighNow(act + 1))
  /\ pc' = "rot4"
  /\ UNCHANGED <<act, nx, poison, werr, errors>> /\ Same
RotateDone ==
  /\ pc = "rot4"
  /\ hw' = Synced(hw) /\ act' = act + 1 /\ pc' = "up"
  /\ UNCHANGED <<F, nx, poison, werr, errors>> /\ Same
(* Any sync of it fails: poisoned, and what it covered is in doubt. *)
RotateFails ==
  /\ pc \in {"rot2", "rot3", "rot4"} /\ errors < MaxErrors
  /\ F' = [f \in Files |-> FailFile(F[f])] /\ hw' = Failed(hw)
  /\ errors' = errors + 1 /\ poison' = acked /\ pc' = "up"
  /\ UNCHANGED <<act, nx, werr>> /\ Same
Rotate == RotateName \/ RotateReported \/ RotateSeal \/ RotateStart \/ RotateSync \/ RotateDone \/ RotateFails

(* Log::recycle: what no live entry needs, once the record that emptied it is durable (L10). *)
Emptied(G, below, from) ==
  LET needed == UNION {Live(Prefix(iss, n)) : n \in from..Len(iss)}
  IN {s \in Ids(G) : /\ s < below /\ Limit(G, s, below) <= from
                     /\ ~\E p \in needed : p > HeadAt(G, s).cut /\ p <= Limit(G, s, below)}
Recycled(G, segs) ==
  [f \in Files |-> IF G[f].n.c \in segs THEN [G[f] EXCEPT !.n = Put(@, 0)] ELSE G[f]]
Recycle ==
  /\ pc = "up" /\ ~Poisoned
  /\ LET dead == Emptied(F, act, IF Bug = "RecycledBeforeDurable" THEN Len(iss) ELSE dur)
     IN dead # {} /\ F' = Recycled(F, dead)
  /\ pc' = "rc"
  /\ UNCHANGED <<hw, act, nx, poison, werr, errors>> /\ Same
RecycleDone ==
  /\ pc = "rc"
  /\ F' = SyncDir(F) /\ pc' = "up"
  /\ UNCHANGED <<hw, act, nx, poison, werr, errors>> /\ Same

(* Shared::mark_idle: with nothing under way, the high-water file says how far all is durable. *)
MarkIdle ==
  /\ pc = "up" /\ ~Poisoned /\ (fl = <<>> \/ Bug = "IdleMarkTooEarly")
  /\ hw.c # HighNow(act) /\ hw' = Put(hw, HighNow(act)) /\ pc' = "idle"
  /\ UNCHANGED <<F, act, nx, poison, werr, errors>> /\ Same
MarkIdleDone ==
  /\ pc = "idle"
  /\ hw' = Synced(hw) /\ pc' = "up"
  /\ UNCHANGED <<F, act, nx, poison, werr, errors>> /\ Same

-----------------------------------------------------------------------------
(* The end of a process. *)

Gone(G, H) ==
  /\ F' = G /\ hw' = H /\ res' = Decide(G, H) /\ pc' = "down"
  /\ fl' = <<>> /\ poison' = -1 /\ werr' = NoError
  /\ act' = 1 /\ nx' = 1 /\ dur' = 0
  /\ UNCHANGED <<iss, acked, shown, ep>>
(* The page cache stays. *)
Die ==
  /\ pc # "down" /\ crashes < MaxCrashes
  /\ Gone(F, hw)
  /\ pin' = IF pc \in Recovering THEN pin ELSE NoPin
  /\ crashes' = crashes + 1
  /\ UNCHANGED <<errors, rot>>
Dirty == {f \in Files : FileOutcomes(F[f]) # {F[f]}}
PowerLoss ==
  /\ crashes < MaxCrashes /\ rot = NoRot
  /\ pc = "down" => Dirty # {} \/ hw.w
  /\ \E G \in DiskOutcomes(F, Dirty), h \in Possible(hw) : Gone(G, Clean(h))
  /\ pin' = IF pc \in Recovering /\ pin.on THEN pin ELSE [on |-> TRUE, hist |-> res'.hist]
  /\ crashes' = crashes + 1
  /\ UNCHANGED <<errors, rot>>

(* Engine::close. *)
CloseSeal ==
  /\ pc = "up" /\ ~Poisoned /\ fl = <<>> /\ crashes < MaxCrashes
  /\ LET foot == [seg |-> act, pos |-> Len(iss), hist |-> iss, has |-> TRUE, by |-> "close", next |-> 0]
     IN F' = [F EXCEPT ![ActFile].t = Put(@, foot)]
  /\ pc' = "cl1"
  /\ UNCHANGED <<hw, act, nx, poison, werr, errors>> /\ Same
CloseHigh ==
  /\ pc = "cl1"
  /\ F' = [F EXCEPT ![ActFile] = SyncFile(@)] /\ pc' = "cl2"
  /\ hw' = IF hw.c = HighNow(act) THEN hw ELSE Put(hw, HighNow(act))
  /\ UNCHANGED <<act, nx, poison, werr, errors>> /\ Same
CloseDone ==
  /\ pc = "cl2"
  /\ Gone(F, Synced(hw))
  /\ pin' = [on |-> TRUE, hist |-> res'.hist] /\ crashes' = crashes + 1
  /\ UNCHANGED <<errors, rot>>

(* One media fault: a frame's unit, or that of one copy where there are two (L4). *)
Rot ==
  /\ pc = "down" /\ rot = NoRot /\ MaxRots > 0 /\ ~res.alarm
  /\ \E s \in {s \in Ids(F) : s <= res.newest /\ HeadOk(F, s)} : \E i \in DOMAIN Frames(F, s) :
       LET f == FileOf(F, s)
           fr == F[f].s[i].c
           twin == HasVote(fr.rec.k) /\ Bug # "OneVoteCopy"
           G == IF twin THEN F ELSE [F EXCEPT ![f].s[i] = Clean(NoFrame)]
       IN /\ fr.seg = s /\ fr.pos <= Limit(F, s, res.newest)
          /\ F' = G /\ res' = Decide(G, hw)
          /\ rot' = [pos |-> fr.pos, hist |-> res.hist, vote |-> HasVote(fr.rec.k)]
  /\ pin' = NoPin
  /\ UNCHANGED <<hw, pc, act, nx, fl, dur, iss, acked, shown, poison, ep, werr, crashes, errors>>

-----------------------------------------------------------------------------
(* recovery::apply, on the plan in `res`. A refused open changes nothing.  *)

Id == res.highest + 1
KeepRes == UNCHANGED <<act, fl, dur, iss, acked, shown, poison, res, ep, werr, crashes, errors, pin, rot>>
(* place_fresh: an unfinished file, or a spare. *)
RecPlace ==
  /\ pc = "down" /\ ~res.alarm /\ rot = NoRot
  /\ \E f \in (IF res.unfinished # {} THEN {FileOf(F, Max(res.unfinished))} ELSE Fresh) :
       F' = [F EXCEPT ![f].n = Put(@, Id)] /\ nx' = f
  /\ pc' = "rec1"
  /\ UNCHANGED hw /\ KeepRes
(* Segments that lack a footer, and those of them that are needed. *)
Unsealed(G) == {s \in Ids(G) : s <= res.newest /\ HeadOk(G, s) /\ ~FootOk(G, s)}
PlanLimit(G, s) == IF s = res.newest THEN res.mark ELSE Limit(G, s, res.newest)
NeededIn(G, s) == \E p \in Live(res.hist) : p > HeadAt(G, s).cut /\ p <= PlanLimit(G, s)
(* What recovery takes for dead: no live entry up to the cut. *)
DeadNow(G) == {s \in Ids(G) : s <= res.newest /\ ~NeededIn(G, s)}
(* The footer's tables go where the frames above the cut stand. *)
CutFrames(G, segs) ==
  [f \in Files |->
     IF G[f].n.c \in segs
     THEN [G[f] EXCEPT !.s = [i \in DOMAIN @ |-> IF @[i].c.seg = G[f].n.c /\ i > PlanLimit(G, G[f].n.c) - G[f].h.c.cut
                                                 THEN Put(@[i], NoFrame) ELSE @[i]]]
     ELSE G[f]]
Needed(G) == {s \in Unsealed(G) : NeededIn(G, s)}
(* start_segment and rewrite: checkpoint at the mark, then what stands above it, with its positions (L3). *)
RecWrite ==
  /\ pc = "rec1"
  /\ LET G == SyncDir(F)
         head == [seg |-> Id, cut |-> res.mark, rto |-> Len(res.hist),
                 hist |-> Carried(Prefix(res.hist, res.mark))]
         frame(i) == [seg |-> Id, pos |-> res.mark + i, rec |-> res.hist[res.mark + i], mark |-> res.mark, kd |-> "r"]
         above == Len(res.hist) - res.mark
         old == G[nx].s
         slots == [i \in 1..(IF Len(old) > above THEN Len(old) ELSE above) |->
                     IF i > above THEN old[i]
                     ELSE Put(IF i <= Len(old) THEN old[i] ELSE Clean(NoFrame), frame(i))]
         new == [G EXCEPT ![nx].h = Put(@, head), ![nx].s = slots]
         synced == IF Bug = "SyncedNotRewritten"
                   THEN [new EXCEPT ![FileOf(G, res.newest)] = SyncFile(@)] ELSE new
     IN /\ above <= Slots
        /\ F' = CASE Bug = "ResealedBeforeCarry" -> CutFrames(synced, Needed(G))
                  [] Bug = "RecycledBeforeCarry" -> Recycled(synced, DeadNow(G))
                  [] OTHER -> synced
  /\ pc' = "rec2"
  /\ UNCHANGED <<hw, nx>> /\ KeepRes
RecSync ==
  /\ pc = "rec2"
  /\ F' = IF Bug = "CutNotSynced" THEN F ELSE [F EXCEPT ![nx] = SyncFile(@)]
  /\ hw' = Put(hw, [seg |-> Id, pos |-> Len(res.hist)])
  /\ pc' = "rec3"
  /\ UNCHANGED nx /\ KeepRes
(* reseal: tables, sync, trailer, sync. *)
RecTables ==
  /\ pc = "rec3"
  /\ hw' = Synced(hw) /\ F' = CutFrames(F, Needed(F)) /\ pc' = "rec4"
  /\ UNCHANGED nx /\ KeepRes
RecTrailer ==
  /\ pc = "rec4"
  /\ F' = [f \in Files |->
             IF F[f].n.c \in Needed(F)
             THEN LET s == F[f].n.c
                      foot == [seg |-> s, pos |-> PlanLimit(F, s), hist |-> Prefix(res.hist, PlanLimit(F, s)),
                               has |-> s = res.newest, by |-> "rec", next |-> Id]
                  IN [SyncFile(F[f]) EXCEPT !.t = Put(@, foot)]
             ELSE F[f]]
  /\ pc' = "rec5"
  /\ UNCHANGED <<hw, nx>> /\ KeepRes
(* Log::recycle and clear_unfinished. *)
RecClear ==
  /\ pc = "rec5"
  /\ LET G == [f \in Files |-> IF F[f].t.w THEN SyncFile(F[f]) ELSE F[f]]
     IN F' = Recycled(G, DeadNow(G) \union (res.unfinished \ {Id}))
  /\ pc' = "rec6"
  /\ UNCHANGED <<hw, nx>> /\ KeepRes
Expose(G) ==
  /\ pc = "rec6"
  /\ F' = G
  /\ pc' = "up" /\ act' = Id /\ nx' = 1 /\ ep' = ep + 1
  /\ iss' = res.hist /\ dur' = Len(res.hist) /\ shown' = Len(res.hist)
  /\ res' = None /\ pin' = NoPin
  /\ UNCHANGED <<hw, fl, acked, poison, werr, crashes, errors, rot>>
RecDone == Expose(SyncDir(F))
(* A sync of it fails: open ends with an error. *)
RecFails ==
  /\ pc \in {"rec2", "rec3", "rec4", "rec5"} /\ errors < MaxErrors
  /\ LET G == [f \in Files |-> FailFile(F[f])] IN Gone(G, Failed(hw))
  /\ errors' = errors + 1
  /\ UNCHANGED <<crashes, pin, rot>>
Recover == RecPlace \/ RecWrite \/ RecSync \/ RecTables \/ RecTrailer \/ RecClear \/ RecDone \/ RecFails

-----------------------------------------------------------------------------
Flights == DOMAIN fl
Next ==
  \/ Submit
  \/ \E i \in Flights : SyncBegin(i) \/ SyncEnd(i) \/ Complete(i)
  \/ WritebackFails \/ Rotate \/ Recycle \/ RecycleDone \/ MarkIdle \/ MarkIdleDone
  \/ CloseSeal \/ CloseHigh \/ CloseDone
  \/ Die \/ PowerLoss \/ Rot \/ Recover
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* The properties, asked of what open decides. Without a media fault:      *)

Asked == pc = "down" /\ rot = NoRot
Opens == Asked /\ ~res.alarm
AckedState == Fold(Prefix(iss, acked))
Found == Fold(res.hist)

Keeps(n) == ~res.alarm /\ Len(res.hist) >= n /\ Prefix(res.hist, n) = Prefix(iss, n)
P1 == Asked /\ acked > 0 => Keeps(acked)
P2 == Asked => /\ res.hist # <<>> => res.hist[Len(res.hist)].k # "H"
               /\ res.holes = {}
P3 == Opens => {Found.ents[i].p : i \in DOMAIN Found.ents} \intersect Truncated(Prefix(iss, acked)) = {}
P4 == Opens => IsPrefix(res.hist, iss)
P5 == Opens => /\ Found.vote >= AckedState.vote
               /\ \A i \in DOMAIN Found.ents : Found.ents[i].t <= Found.vote
P6 == Opens => Found.commit >= AckedState.commit /\ Found.commit <= Top(Found)
P10 == Asked /\ shown > 0 => Keeps(shown)
P11 == /\ Opens /\ pin.on => res.hist = pin.hist
       (* No more segments than the entries need, the one that is written, and one that is emptied already. *)
       /\ pc = "up" /\ fl = <<>> => Cardinality(Ids(F) \ Emptied(F, act, Len(iss))) <= 1 + Cardinality(Live(iss))
P12 == Asked => ~res.alarm
(* A mark never lies: what it covers was acknowledged, or shown by an open. *)
P14Mark == Asked => \A s \in Ids(F) : \A i \in DOMAIN Frames(F, s) :
             LET fr == Frames(F, s)[i]
             IN fr.seg = s /\ fr.kd = "b" => fr.mark <= (IF acked > shown THEN acked ELSE shown)
P15 == Opens => /\ ~res.clean => res.maybe
                /\ res.clean => res.mark = Len(res.hist)
                /\ acked <= res.mark + MaxFlights + 1
P16 == poison >= 0 => acked = poison
(* With one: a state that the history allows; named; or above the largest mark, where nothing can be known. What a recovery wrote  *)
(* again is as good as marked once the high-water file names its segment. A removal that is lost above   *)
(* the mark brings back names of entries whose segment may be recycled: those are then named as lost.    *)
P14 == pc = "down" /\ rot # NoRot =>
         \/ ~res.alarm /\ IsPrefix(res.hist, iss) /\ Len(res.hist) >= acked /\ Len(res.hist) >= shown
         \/ res.alarm /\ rot.pos <= res.big
         \/ res.alarm /\ \E s \in Ids(F) : /\ HeadOk(F, s) /\ hw.c.seg >= s
                                          /\ HeadAt(F, s).cut < rot.pos /\ rot.pos <= HeadAt(F, s).rto
         \/ res.alarm /\ res.holes # {} /\ res.holes \intersect Live(rot.hist) = {}
         \/ ~res.alarm /\ rot.pos > res.mark /\ rot.pos > res.big /\ IsPrefix(res.hist, iss)
P5Rot == pc = "down" /\ rot.vote => ~res.alarm /\ res.hist = rot.hist
P15Rot == pc = "down" /\ rot # NoRot /\ ~res.alarm => acked <= res.mark + MaxFlights + 1
=============================================================================
