package offline

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Settle makes all that a member's log holds count as agreed on, where that leaves the member the only one that votes.
//
// Of two voters one may take itself out and be gone before the other has written down that both agreed to that: killed
// then, it waits for ever for the vote of the one that is gone. All that the two ever agreed on is in its log, and what
// is there beyond that is no less right. It is an error where the log leaves other voters.
//
// Unlike all else here it changes the files that it is given: no datastore may be using them.
func Settle(data string) error {
	lg, err := quiet()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	l, err := readMember(lg, data)
	if err != nil {
		return fmt.Errorf("read the log of %s: %w", data, err)
	}
	var self etcdserverpb.Metadata
	if err := self.Unmarshal(l.metadata); err != nil {
		return fmt.Errorf("read whose log %s is: %w", data, err)
	}
	voters := map[uint64]bool{}
	for _, id := range l.voters {
		voters[id] = true
	}
	for _, e := range l.entries {
		if e.Type != raftpb.EntryConfChange {
			continue
		}
		var c raftpb.ConfChange
		if err := c.Unmarshal(e.Data); err != nil {
			return fmt.Errorf("read entry %d of %s: %w", e.Index, data, err)
		}
		switch c.Type {
		case raftpb.ConfChangeAddNode:
			voters[c.NodeID] = true
		case raftpb.ConfChangeRemoveNode, raftpb.ConfChangeAddLearnerNode:
			delete(voters, c.NodeID)
		}
	}
	if len(voters) != 1 || !voters[self.NodeID] {
		return fmt.Errorf("the log of %s leaves the voters %x, of which it is %x", data, slices.Sorted(maps.Keys(voters)), self.NodeID)
	}
	return l.commit(lg, data)
}
