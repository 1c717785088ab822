---------------------------- MODULE SeawallTrace ----------------------------
(***************************************************************************)
(* What the simulator recorded of the real engine, against SeawallLog.     *)
(*                                                                         *)
(* Owns: which events each action of the log must leave on the disk, in    *)
(* which order. TraceData, which crashcheck writes, holds the traces. A    *)
(* trace is accepted if some behaviour of the log leaves exactly its       *)
(* events; its number is then printed. Flights' sync and acknowledgement   *)
(* have no event of their own but the sync and what the host was told.     *)
(*                                                                         *)
(* Events: name, spare, gone and mk give a file its name; dir syncs the    *)
(* directory, sync a file; head, frame, tables and foot are written to a   *)
(* segment; hw is written and hws synced; ack is what the host was told;   *)
(* die and opened are the ends of a handle and of an open.                 *)
(***************************************************************************)
EXTENDS SeawallLog, TraceData

VARIABLES tr, at

(* The records of trace n are issued from epoch 1000 n on; Kills says which frames make one needless. *)
TraceLive(h) ==
  {p \in DOMAIN h : LET kills == Kills[h[p].e \div 1000][h[p].k]
                    IN ~\E q \in p..Len(h) : h[q].k \in kills}

T == Traces[tr]
More == at <= Len(T)
Here == T[at]
Is(op) == More /\ Here[1] = op
(* The next events are these. *)
Sees(es) == /\ at + Len(es) - 1 <= Len(T) /\ SubSeq(T, at, at + Len(es) - 1) = es
            /\ at' = at + Len(es) /\ UNCHANGED tr
(* The same, with the footer's tables among them where there are any. *)
SeesTables(before, f, after) ==
  Sees(before \o <<<<"tables", f>>>> \o after) \/ Sees(before \o after)
Silent == UNCHANGED <<tr, at>>
High(h) == <<"hw", h.c.seg, h.c.pos>>
HighRest(h) == <<<<"hws">>, High(h), <<"hws">>>>

TInit == tr \in DOMAIN Traces /\ at = 1 /\ InitWith(3, 1000 * tr)

TWrite ==
  /\ Is("frame") /\ Here[2] = ActFile /\ Write(Here[6])
  /\ Sees(<<<<"frame", ActFile, act, Len(iss'), dur, Here[6], "b">>>>)
TSync == \E i \in Flights :
  \/ Is("sync") /\ fl[i].f = Here[2] /\ (\A j \in Flights : fl[j].st # "s") /\ SyncBegin(i) /\ Silent
  \/ Is("sync") /\ SyncEnd(i) /\ Sees(<<<<"sync", fl[i].f>>>>)
  \/ Complete(i) /\ Silent
TAck == Is("ack") /\ Here[2] <= acked /\ Sees(<<Here>>) /\ UNCHANGED vars

Seg(f) == F[f].n.c
TRotate ==
  \/ RotateName /\ Sees(<<<<"name", nx', act + 1>>>>)
  \/ RotateSeal /\ SeesTables(<<<<"dir">>>>, ActFile,
       <<<<"sync", ActFile>>, <<"foot", ActFile, act, Len(iss), "rot", act + 1>>>>)
  \/ RotateStart /\ Sees(<<<<"sync", ActFile>>, <<"head", nx, act + 1, Len(iss), Len(iss)>>>>)
  \/ RotateSync /\ Sees(<<<<"sync", nx>>, High(hw')>>)
  \/ RotateDone /\ Sees(HighRest(hw))
TIdle ==
  \/ MarkIdle /\ Sees(<<High(hw')>>)
  \/ MarkIdleDone /\ Sees(HighRest(hw))
TClose ==
  \/ CloseSeal /\ SeesTables(<<>>, ActFile, <<<<"sync", ActFile>>, <<"foot", ActFile, act, Len(iss), "close", 0>>>>)
  \* highwater::Keeper::raise writes nothing if there is nothing more to say.
  \/ CloseHigh /\ Sees(IF hw' = hw THEN <<<<"sync", ActFile>>>> ELSE <<<<"sync", ActFile>>, High(hw')>>)
  \/ CloseDone /\ IF hw.w THEN Sees(HighRest(hw)) ELSE Silent

(* A file that is made, and one whose segment may go: a spare again, or removed. *)
Rename(f, n) == F' = [F EXCEPT ![f].n = Put(@, n)]
OnlyF == UNCHANGED <<hw, pc, act, nx, fl, dur, iss, acked, shown, poison, res, ep, werr, crashes, errors, pin, rot>>
MayGo(f) ==
  \/ pc = "up" /\ Seg(f) \in Emptied(F, act, dur)
  \/ pc = "rec6" /\ Seg(f) \in DeadNow(F) \union (res.unfinished \ {Id})
  \/ pc = "up" /\ Seg(f) = 0
TNames ==
  \/ pc \in {"up", "down"} /\ Is("mk") /\ Seg(Here[2]) = -1 /\ Rename(Here[2], 0) /\ OnlyF /\ Sees(<<Here>>)
  \/ Is("spare") /\ MayGo(Here[2]) /\ Rename(Here[2], 0) /\ OnlyF /\ Sees(<<Here>>)
  \/ Is("gone") /\ MayGo(Here[2]) /\ Rename(Here[2], -1) /\ OnlyF /\ Sees(<<Here>>)
  \/ pc \in {"up", "rec6"} /\ Is("dir") /\ F' = SyncDir(F) /\ OnlyF /\ Sees(<<Here>>)

TDie ==
  \/ Die /\ Sees(<<<<"die">>>>)
  \/ pc = "down" /\ Sees(<<<<"die">>>>) /\ UNCHANGED vars
Again == [i \in 1..(Len(res.hist) - res.mark) |->
            <<"frame", nx, Id, res.mark + i, res.mark, res.hist[res.mark + i].k, "r">>]
Cut == Needed(F)
One == FileOf(F, Max(Cut))
TRecover ==
  \/ RecPlace /\ Sees(<<<<"name", nx', Id>>>>)
  \/ RecWrite /\ Sees(<<<<"dir">>, <<"head", nx, Id, res.mark, Len(res.hist)>>>> \o Again)
  \/ RecSync /\ Sees(<<<<"sync", nx>>, High(hw')>>)
  \/ RecTables /\ IF Cut = {} THEN Sees(HighRest(hw)) ELSE Sees(HighRest(hw) \o <<<<"tables", One>>>>)
  \/ RecTrailer /\ IF Cut = {} THEN Silent
                   ELSE Sees(<<<<"sync", One>>, <<"foot", One, Seg(One), PlanLimit(F, Seg(One)), "rec", Id>>>>)
  \/ /\ pc = "rec5" /\ pc' = "rec6" /\ UNCHANGED <<hw, nx>> /\ KeepRes
     /\ F' = [f \in Files |-> IF F[f].t.w THEN SyncFile(F[f]) ELSE F[f]]
     /\ IF \E f \in Files : F[f].t.w THEN Sees(<<<<"sync", CHOOSE f \in Files : F[f].t.w>>>>) ELSE Silent
  \/ Expose(F) /\ Sees(<<<<"opened", Len(res.hist)>>>>)

TDone == at = Len(T) + 1 /\ PrintT(<<"accepted", tr>>) /\ at' = at + 1 /\ UNCHANGED tr /\ UNCHANGED vars
TNext == TWrite \/ TSync \/ TAck \/ TRotate \/ TIdle \/ TClose \/ TNames \/ TDie \/ TRecover \/ TDone
TSpec == TInit /\ [][TNext]_<<vars, tr, at>>
=============================================================================
