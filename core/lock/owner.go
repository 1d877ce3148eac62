package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxOwner is the most of a lock file that is read.
const maxOwner = 4 << 10

// Owner is who holds a lock, for people.
type Owner struct {
	PID   int       `json:"pid"`
	User  string    `json:"user"`
	Verb  string    `json:"verb"`
	Since time.Time `json:"since"`
}

// Describe names an owner for a message: "`mk join` (pid 4121, root, 12 s)".
func (o Owner) Describe(now time.Time) string {
	if o.Verb == "" && o.PID == 0 {
		return "another mk"
	}
	out := "`mk"
	if o.Verb != "" {
		out += " " + o.Verb
	}
	out += fmt.Sprintf("` (pid %d", o.PID)
	if o.User != "" {
		out += ", " + o.User
	}
	if held := now.Sub(o.Since); !o.Since.IsZero() && held >= 0 {
		out += ", " + short(held)
	}
	return out + ")"
}

func short(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
}

// sign writes the holder into the lock file. A lock that cannot be signed (a
// full disk) is given back: nobody could tell who holds it.
func (l *Lock) sign(o Owner) error {
	data, err := json.Marshal(o.clean())
	if err == nil {
		err = l.file.Truncate(0)
	}
	if err == nil {
		_, err = l.file.WriteAt(append(data, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("take lock: name its holder: %w", errors.Join(err, l.Release()))
	}
	return nil
}

// readOwner is what a lock file says; empty where it says nothing readable.
func readOwner(name string) Owner {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Owner{}
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxOwner))
	if err != nil {
		return Owner{}
	}
	return parseOwner(data)
}

func parseOwner(data []byte) Owner {
	var o Owner
	if json.Unmarshal(data, &o) != nil {
		return Owner{}
	}
	return o.clean()
}

// clean keeps what a file says from moving a terminal's cursor.
func (o Owner) clean() Owner {
	o.PID = max(o.PID, 0)
	o.User, o.Verb = plain(o.User), plain(o.Verb)
	return o
}

func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '`' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 100)]
}
