package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mk8s.io/mk/sdk/tokens"
)

// Hash is what is kept of a token.
type Hash [sha256.Size]byte

// HashOf hashes a token. The label keeps it apart from any other SHA-256 of
// the same text.
func HashOf(token string) Hash { return sha256.Sum256([]byte("mk token v1\x00" + token)) }

// ID names a token to people: the first 64 bits of its hash, which tell
// nothing about a token of 32 characters.
type ID [8]byte

// ID of the token with this hash.
func (h Hash) ID() ID { return ID(h[:len(ID{})]) }

// String is 16 hexadecimal digits.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, false
	}
	return ID(b), true
}

// Record is one token, and who holds it.
type Record struct {
	Hash       Hash           `json:"-"`
	Purpose    tokens.Purpose `json:"-"` // the file says it
	Operation  string         `json:"op,omitempty"`
	Role       string         `json:"role,omitempty"`
	BoundNames []string       `json:"names,omitempty"`
	Created    time.Time      `json:"created"`
	Expires    time.Time      `json:"expires,omitzero"`
	UsesLeft   uint32         `json:"uses,omitempty"`
	Unbounded  bool           `json:"unbounded,omitempty"`
	Revoked    bool           `json:"revoked,omitempty"`
	Ended      time.Time      `json:"ended,omitzero"` // when it was used up or revoked
	Held       []Hold         `json:"held,omitempty"`
	Done       []string       `json:"done,omitempty"` // the last reservations that were committed
}

// Hold is a use of a token that a claimant holds for a while.
type Hold struct {
	ID       string          `json:"id"`
	Claimant tokens.Claimant `json:"claimant"`
	Until    time.Time       `json:"until"`
}

// Over is when the token stopped being good, or the zero time.
func (r *Record) Over(now time.Time) time.Time {
	if !r.Ended.IsZero() {
		return r.Ended
	}
	if !r.Expires.IsZero() && !now.Before(r.Expires) {
		return r.Expires
	}
	return time.Time{}
}

// Bounds of lines.
const (
	maxLine  = 512 << 10
	minPlain = 16 // shorter than this is no token: nor is any part of a line of ours that was cut off
	maxPlain = 512
	prefix   = "sha256:"
)

// encode is a line: the hash where people look for the token, a checksum over
// the rest, and the rest. Without the newline.
func (r *Record) encode() ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write token %s: %w", r.Hash.ID(), err)
	}
	head := prefix + hex.EncodeToString(r.Hash[:])
	line := fmt.Appendf(nil, "%s|%08x|%s", head, checksum(r.Hash, body), body)
	if len(line) > maxLine {
		return nil, fmt.Errorf("write token %s: %d bytes, at most %d are allowed", r.Hash.ID(), len(line), maxLine)
	}
	return line, nil
}

// Line is how a token stands in a file: for another node's ledger. Who holds
// it here is not part of it.
func (r *Record) Line() (string, error) {
	alone := *r
	alone.Held, alone.Done = nil, nil
	b, err := alone.encode()
	return string(b), err
}

// ReadLine reads what Line wrote.
func ReadLine(line string, p tokens.Purpose) (*Record, error) {
	r, ok := decode([]byte(line))
	if !ok {
		return nil, errors.New("a token's line is damaged")
	}
	r.Purpose = p
	return r, nil
}

func checksum(h Hash, body []byte) uint32 {
	c := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	c.Write(h[:]) //nolint:errcheck // never fails
	c.Write(body) //nolint:errcheck // never fails
	return c.Sum32()
}

// split takes a line of ours apart; false for any other, and for one that was
// cut off or changed.
func split(line []byte) (h Hash, body []byte, ok bool) {
	const hexHash = 2 * len(h)
	const bodyAt = len(prefix) + hexHash + 1 + 8 + 1
	if len(line) < bodyAt || len(line) > maxLine || !bytes.HasPrefix(line, []byte(prefix)) ||
		line[len(prefix)+hexHash] != '|' || line[bodyAt-1] != '|' {
		return h, nil, false
	}
	if _, err := hex.Decode(h[:], line[len(prefix):len(prefix)+hexHash]); err != nil {
		return h, nil, false
	}
	sum, err := strconv.ParseUint(string(line[bodyAt-9:bodyAt-1]), 16, 32)
	if err != nil || uint32(sum) != checksum(h, line[bodyAt:]) {
		return h, nil, false
	}
	return h, line[bodyAt:], true
}

// decode reads a line of ours.
func decode(line []byte) (*Record, bool) {
	h, body, ok := split(line)
	if !ok {
		return nil, false
	}
	r := &Record{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, false
	}
	r.Hash = h
	return r, true
}

// plain reads a line that a person or another tool wrote: "token" or
// "token|when it ends". What such a token is good for is as in MicroK8s: one
// that ends serves any number of nodes until then, any other one serves one.
func plain(line []byte, p tokens.Purpose, now time.Time) (*Record, bool) {
	text := strings.TrimSpace(string(line))
	token, end, ends := strings.Cut(text, "|")
	var names []string
	if host, rest, ok := strings.Cut(token, " "); ok && p == tokens.Callback { // "host:port token"
		token = rest
		names = []string{host}
	}
	if !isToken(token) {
		return nil, false
	}
	r := &Record{Hash: HashOf(token), Purpose: p, BoundNames: names, Created: now.UTC().Truncate(time.Second)}
	if ends {
		at, err := strconv.ParseInt(end, 10, 64)
		if err != nil || at < 0 || at > 1<<40 {
			return nil, false
		}
		r.Expires = time.Unix(at, 0).UTC()
	}
	if ends || p == tokens.Persistent || p == tokens.Callback {
		r.Unbounded = true
	} else {
		r.UsesLeft = 1
	}
	return r, true
}

// mistaken tells a line that someone wrote as a token, and that is none, from
// one that a kill or a lost disk has cut off.
func mistaken(line []byte) bool {
	text := bytes.TrimSpace(line)
	switch {
	case len(text) == 0, text[0] == '#', bytes.IndexByte(text, 0) >= 0, bytes.HasPrefix([]byte(prefix), text):
		return false
	case bytes.HasPrefix(text, []byte(prefix)):
		i := bytes.IndexByte(text, '{')
		return i > 0 && json.Valid(text[i:]) // whole, and changed
	}
	return true
}

func isToken(s string) bool {
	return len(s) >= minPlain && len(s) <= maxPlain && utf8.ValidString(s) && !strings.HasPrefix(s, prefix) && s[0] != '#' &&
		!strings.ContainsFunc(s, func(c rune) bool { return c == '|' || unicode.IsSpace(c) || unicode.IsControl(c) })
}

// CheckToken says what is wrong with a token that a user chose: it must stand
// in one line, and be no shorter than chosen tokens have to be.
func CheckToken(s string) error {
	const shortest = 32
	switch {
	case len(s) < shortest || len(s) > maxPlain:
		return fmt.Errorf("a chosen token has %d to %d characters, not %d", shortest, maxPlain, len(s))
	case !isToken(s) || strings.Contains(s, "/"):
		return fmt.Errorf("a chosen token has no blanks, control characters, / or |, and does not begin with # or %s", prefix)
	}
	return nil
}
