"""Where every entry is: for each group its indexes, each with a name and a place.

I own the rule that the newest write of an index wins and drops what was there and above. I know no file.
"""

from collections import namedtuple

# Who an entry is, beside its group and index.
Name = namedtuple("Name", "kind incarnation term leader")
# `segment` holds it at (offset, length, checksum).
Entry = namedtuple("Entry", "name segment place")


class Index:
    """The entries of every group, in ascending order of their indexes."""

    def __init__(self):
        # Inserting at an index drops all from there on, so a dict is always in order.
        self.groups = {}

    def put(self, group, index, entry):
        """An entry was written."""
        here = self.groups.setdefault(group, {})
        if here:
            if next(iter(here.values())).name.incarnation != entry.name.incarnation:
                here.clear()
            else:
                self.truncate(group, index)
        here[index] = entry

    def truncate(self, group, start):
        """Drops the entries from `start` on."""
        here = self.groups.get(group)
        while here:
            last = next(reversed(here))
            if last < start:
                return
            del here[last]

    def settle(self, groups):
        """Drops what no group owns."""
        for id_ in [id_ for id_ in self.groups if id_ not in groups]:
            del self.groups[id_]
        for id_, group in groups.items():
            if self.incarnation(id_) not in (None, group.incarnation):
                self.groups[id_].clear()
            self.truncate(id_, group.last[0] + 1)
            here = self.groups.get(id_, {})
            for index in [index for index in here if index <= group.purged[0]]:
                del here[index]

    def incarnation(self, group):
        """The incarnation whose entries these are; None if there are none."""
        here = self.groups.get(group)
        return next(iter(here.values())).name.incarnation if here else None

    def get(self, group, index):
        """The entry, or None."""
        return self.groups.get(group, {}).get(index)

    def holes(self, groups, above):
        """(group, from, to) of what the groups say that they have and what is not here.

        `above` gives for (group, incarnation) the index from which on entries come from elsewhere.
        """
        found = []
        for id_ in sorted(groups):
            group = groups[id_]
            end = min(group.last[0], above.get((id_, group.incarnation), group.last[0] + 1) - 1)
            wanted = group.purged[0] + 1
            here = self.groups.get(id_, {}) if self.incarnation(id_) == group.incarnation else {}
            for index in here:
                if wanted <= min(index - 1, end):
                    found.append((id_, wanted, min(index - 1, end)))
                wanted = max(wanted, index + 1)
            if wanted <= end:
                found.append((id_, wanted, end))
        return found
