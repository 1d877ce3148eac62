package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is one, and its other end, on which a person types.
func terminal(t *testing.T) (here *os.File, person io.Writer) {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if err := unix.IoctlSetPointerInt(int(other.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(other.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	here, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = here.Close() })
	return here, other
}

// What loses data goes on only where a person typed the name.
func TestTheNameIsTyped(t *testing.T) {
	for _, c := range []struct {
		typed, answer string
		agreed        bool
	}{
		{"node-a", "node-a\n", true}, {"node-a", "yes\n", false}, {"node-a", "node-b\n", false}, {"node-a", "\n", false},
		{"", "yes\n", true}, {"", "y\n", false},
	} {
		s, _, errs := testSession(t, "pretty")
		here, person := terminal(t)
		s.in = here
		if _, err := io.WriteString(person, c.answer); err != nil {
			t.Fatal(err)
		}
		err := s.agree("Data are lost.", c.typed)
		if (err == nil) != c.agreed || !strings.Contains(errs.String(), "Data are lost.\nType ") {
			t.Errorf("asked for %q, answered %q: %v\n%s", c.typed, c.answer, err, errs)
		}
		if err != nil && s.finish(t.Context(), err) != exitNeedsYes {
			t.Errorf("asked for %q, answered %q: not exit 6", c.typed, c.answer)
		}
	}
}
