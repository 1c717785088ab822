---------------------------- MODULE LogInstances ----------------------------
(* The streams that the instances of SeawallLog go through: at each        *)
(* position, the kinds of record that may stand there.                     *)
EXTENDS SeawallLog

MenuEntries == <<{"E"}, {"E"}, {"E"}, {"E"}>>
MenuVotes == <<{"B"}, {"E", "V"}, {"E", "B", "T"}>>
MenuCrash == <<{"B"}, {"E", "V"}, {"E", "T"}>>
MenuControl == <<{"V"}, {"V"}, {"V"}, {"V"}>>
MenuCommits == <<{"E"}, {"C"}, {"E"}>>
MenuTruncates == <<{"B"}, {"E"}, {"T"}, {"B", "C"}>>
MenuOverwrites == <<{"E"}, {"T"}, {"E"}>>
MenuCompacts == <<{"E"}, {"C"}, {"P"}, {"E"}, {"V"}, {"E"}>>
MenuFull == <<{"B", "E"}, {"E", "V", "C"}, {"E", "B", "T", "P"}>>
=============================================================================
