package agent

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// filePages is how much of files this process has in memory, in KiB.
func filePages(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssFile:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile")
	return 0
}

func TestGiveBack(t *testing.T) {
	before := filePages(t)
	if err := giveBack(); err != nil {
		t.Fatal(err)
	}
	// How much depends on how the test was built; that it lives on, too.
	if after := filePages(t); after >= before {
		t.Errorf("%d KiB of the program are in memory, %d before", after, before)
	}
}

// Only what nobody can have written to, and nobody has, is given back.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	for smaps, want := range map[string]bool{
		"00400000-01d6e000 r-xp 00000000 08:01 7  /usr/bin/mk\nRss: 4 kB\nAnonymous:  0 kB\n":                     true,
		"01d6e000-03980000 r--p 0196e000 08:01 7  /usr/bin/mk\nRss: 4 kB\nAnonymous:  0 kB\n":                     true,
		"00400000-01d6e000 r-xp 00000000 08:01 7  /usr/bin/mk (deleted)\nAnonymous:  0 kB\n":                      true,
		"01d6e000-03980000 r--p 0196e000 08:01 7  /usr/bin/mk\nRss: 4 kB\nAnonymous:  4 kB\n":                     false,
		"03980000-03a7e000 rw-p 03580000 08:01 7  /usr/bin/mk\nAnonymous:  0 kB\n":                                false,
		"03a7e000-05acc000 rw-p 00000000 00:00 0 \nAnonymous:  0 kB\n":                                            false,
		"7f0000000000-7f0000001000 r-xp 00000000 08:01 9  /lib/libc.so\nAnonymous:  0 kB\n":                       false,
		"00400000-01d6e000 r-xp 00000000 08:01 7  /usr/bin/mk\n03a7e000-05acc000 rw-p 0 0:0 0\nAnonymous: 0 kB\n": false,
		"zz-01 r-xp 00000000 08:01 7  /usr/bin/mk\nAnonymous:  0 kB\n":                                            false,
		"": false,
	} {
		if got := unchanged(smaps, "/usr/bin/mk"); (len(got) == 1) != want || len(got) > 1 {
			t.Errorf("%q: %x", smaps, got)
		}
	}
}
