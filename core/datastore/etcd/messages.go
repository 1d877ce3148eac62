package etcd

// The numbers below are those of etcd's rpc.proto and kv.proto, which etcd only adds to.

// Member is one member as etcd has it.
type Member struct {
	ID         uint64
	Name       string
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// Roll is who the members are.
type Roll struct {
	Cluster uint64
	Self    uint64 // who says so
	Members []Member
}

// Status is what a member says of itself.
type Status struct {
	Member, Leader         uint64 // itself, and whom it follows; 0 is nobody
	Revision               int64
	Version                string
	Size, InUse            int64
	RaftIndex, RaftApplied uint64
	Errors                 []string
}

func parseMember(data []byte) (Member, error) {
	var m Member
	err := fields(data, func(f field) error {
		switch f.number {
		case 1:
			m.ID = f.value
		case 2:
			m.Name = string(f.bytes)
		case 3:
			m.PeerURLs = append(m.PeerURLs, string(f.bytes))
		case 4:
			m.ClientURLs = append(m.ClientURLs, string(f.bytes))
		case 5:
			m.Learner = f.value != 0
		}
		return nil
	})
	return m, err
}

// header is what stands in front of every answer.
type header struct {
	cluster, member uint64
	revision        int64
}

func parseHeader(data []byte) (header, error) {
	var h header
	err := fields(data, func(f field) error {
		switch f.number {
		case 1:
			h.cluster = f.value
		case 2:
			h.member = f.value
		case 3:
			h.revision = int64(f.value)
		}
		return nil
	})
	return h, err
}

func parseRoll(data []byte) (*Roll, error) {
	r := &Roll{}
	err := fields(data, func(f field) error {
		switch f.number {
		case 1:
			h, err := parseHeader(f.bytes)
			r.Cluster, r.Self = h.cluster, h.member
			return err
		case 2:
			m, err := parseMember(f.bytes)
			r.Members = append(r.Members, m)
			return err
		}
		return nil
	})
	return r, err
}

func parseStatus(data []byte) (*Status, error) {
	s := &Status{}
	err := fields(data, func(f field) error {
		switch f.number {
		case 1:
			h, err := parseHeader(f.bytes)
			s.Member, s.Revision = h.member, h.revision
			return err
		case 2:
			s.Version = string(f.bytes)
		case 3:
			s.Size = int64(f.value)
		case 4:
			s.Leader = f.value
		case 5:
			s.RaftIndex = f.value
		case 7:
			s.RaftApplied = f.value
		case 8:
			s.Errors = append(s.Errors, string(f.bytes))
		case 9:
			s.InUse = int64(f.value)
		}
		return nil
	})
	return s, err
}

// parseValue is the value of the key that an answer holds, if it holds one.
func parseValue(data []byte) (value []byte, found bool, err error) {
	err = each(data, 2, func(f field) error {
		found = true
		return each(f.bytes, 5, func(f field) error {
			value = f.bytes
			return nil
		})
	})
	return value, found, err
}

// parseBlob is the part of a snapshot that an answer holds.
func parseBlob(data []byte) (blob []byte, err error) {
	err = each(data, 3, func(f field) error {
		blob = f.bytes
		return nil
	})
	return blob, err
}

// parseKeys are the keys that an answer holds.
func parseKeys(data []byte) (keys []string, err error) {
	err = each(data, 2, func(f field) error {
		return each(f.bytes, 1, func(f field) error {
			keys = append(keys, string(f.bytes))
			return nil
		})
	})
	return keys, err
}
